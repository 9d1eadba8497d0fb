"""From a config to a scored partition: which model, which groups, and that none of them got lost."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from esmm_spark import storage
from esmm_spark.config import Config
from esmm_spark.errors import CountMismatchError
from esmm_spark.features import FeatureSpec
from esmm_spark.manifest import PartitionCounts, require_same_spec
from esmm_spark.model.directory import ModelInfo, find_model, read_info
from esmm_spark.scoring.failures import user_errors
from esmm_spark.scoring.partition import (
    REJECTS_FOLDER,
    ScoreInput,
    ScoreRecord,
    partition_uri,
    publish,
    read_record,
)
from esmm_spark.scoring.predictor import scorer
from esmm_spark.scoring.sources import GroupSource, describe_input, open_source

_SCORE_TYPES = (
    "impression_id string, group_key string, pctr float, pcvr float, pctcvr float, click tinyint, "
    "conversion tinyint"
)
# As evaluation reads them.
_SCORE_COLUMNS = (
    "impression_id",
    "group_key",
    "pctr",
    "pcvr",
    "pctcvr",
    "model_version",
    "click",
    "conversion",
)
_PROBABILITIES = ("pctr", "pcvr", "pctcvr")

# Spark counts the rows of an Arrow batch, and a row is a group, which may hold 256 impressions or 500 tokens.
# About this many bytes reach a worker at a time: 35,000 impressions of Ali-CCP.
_ARROW_BATCH_BYTES = 8 << 20
_MAX_GROUPS_PER_BATCH = 10_000
_GROUPS_PER_BATCH_KEY = "spark.sql.execution.arrow.maxRecordsPerBatch"


@dataclass(frozen=True)
class Scored:
    """A scored partition.

    Attributes:
        folder: where it lies.
        record: what its _score.json says.
        is_new: false if it had been scored before from the same inputs, so that nothing was done.
    """

    folder: str
    record: ScoreRecord
    is_new: bool

    def __str__(self) -> str:
        record = self.record
        what = f"{record.impressions:,} impressions with model {record.input.model_version}"
        if not self.is_new:
            return f"{self.folder} holds the scores of {what} already: nothing to do (--force scores again)"
        rejects = f", {sum(record.rejects.values()):,} lines rejected" if record.rejects else ""
        means = ""
        if record.mean_pctr is not None:
            means = (
                f"\nmean pCTR {record.mean_pctr:.5f}, pCVR {record.mean_pcvr:.5f}, "
                f"pCTCVR {record.mean_pctcvr:.7f}"
            )
        return f"scored {what}{rejects}: {self.folder}{means}"


@dataclass(frozen=True)
class ScoringPlan:
    """What is to be scored with what, found and checked without Spark.

    Attributes:
        config: the whole config.
        model_uri: the newest complete model version.
        info: what its model.json says.
        folder: the partition of the scores.
        inputs: what the scores follow from.
    """

    config: Config
    model_uri: str
    info: ModelInfo
    folder: str
    inputs: ScoreInput

    def done_before(self) -> Scored | None:
        """Returns the partition if it has been scored from the same inputs."""
        record = read_record(self.folder)
        same = record is not None and record.input == self.inputs
        return Scored(self.folder, record, is_new=False) if record is not None and same else None


def plan_scoring(config: Config) -> ScoringPlan:
    """Returns the plan to score `score.partition` with the newest model.

    Raises:
        InputError: no model or nothing to score, or a file is missing.
        IncompleteError, UnsafeFileError: model or dataset are half-written, or carry a pickle.
        SpecMismatchError: config, dataset and model are not of one feature spec.
    """
    model_uri = find_model(config.paths.model)
    info = read_info(model_uri)
    require_same_spec(config.features, "the config", info.feature_spec, f"model {model_uri}")
    folder = partition_uri(config.paths.scores, config.score.partition)
    return ScoringPlan(config, model_uri, info, folder, describe_input(config, info))


def score(spark: SparkSession, plan: ScoringPlan) -> Scored:
    """Scores the plan's impressions and puts the scores in the place of the partition.

    Until all scores are written and counted the partition is what it was before.

    Raises:
        InputError: a file is truncated, corrupt or empty.
        TooManyRejectsError: raw files have more bad lines than `logs.max_reject_fraction` allows.
        CountMismatchError: there are more or fewer scores than impressions.
    """
    staged = storage.staging_path(plan.folder)
    storage.delete(staged)
    workplace = storage.absolute(f"{staged}-examples")
    remedy = "run jobs/preprocess.py again" if plan.inputs.source == "examples" else "mend the raw files"
    with (
        user_errors(spark, remedy),
        open_source(spark, plan.config, plan.info, plan.model_uri, workplace) as source,
    ):
        means = _write_scores(spark, plan, source, storage.spark_path(staged))
        written = _count_rows(staged)
        if written != source.counts.impressions:
            raise CountMismatchError(
                f"{written:,} scores were written for {source.counts.impressions:,} impressions "
                f"({', '.join(plan.inputs.paths)}): {plan.folder} stays as it was"
            )
        if source.rejects_folder is not None:
            storage.move(source.rejects_folder, storage.join(staged, REJECTS_FOLDER))
    record = ScoreRecord(input=plan.inputs, impressions=written, rejects=source.rejects, **means)
    publish(plan.folder, record)
    return Scored(plan.folder, record, is_new=True)


def _write_scores(
    spark: SparkSession, plan: ScoringPlan, source: GroupSource, folder: str
) -> dict[str, float | None]:
    """Writes the scores to `folder` and returns their means, by the names of ScoreRecord."""
    section, info = plan.config.score, plan.info
    scores = score_groups(source.groups, plan.model_uri, info.model_version, section.batch_size)
    if section.num_files is not None:
        scores = scores.repartition(section.num_files)
    means = Observation("means")
    averages = (F.avg(name).alias(f"mean_{name}") for name in _PROBABILITIES)
    with _groups_per_batch(spark, groups_per_batch(source.counts, info.feature_spec)):
        scores.observe(means, *averages).write.parquet(folder)
    found = means.get if source.counts.groups else {}
    return {f"mean_{name}": found.get(f"mean_{name}") for name in _PROBABILITIES}


def score_groups(groups: DataFrame, model_uri: str, model_version: str, batch_size: int) -> DataFrame:
    """Returns the scores of all impressions.

    Args:
        groups: grain: one row per group; columns `groups.GROUP_COLUMNS`.
        model_uri: a complete model version, as every worker can reach it.
        model_version: its name.
        batch_size: impressions that go through the model at a time, at most.

    Returns:
        Grain: one row per impression; columns as in docs/architecture.md.
    """
    return (
        groups.mapInArrow(scorer(storage.absolute(model_uri), model_version, batch_size), _SCORE_TYPES)
        .withColumn("model_version", F.lit(model_version))
        .select(*_SCORE_COLUMNS)
    )


def groups_per_batch(counts: PartitionCounts, spec: FeatureSpec) -> int:
    """Returns how many groups make an Arrow batch of about 8 MiB.

    Example: 58 impressions with 1,301 tokens take 8 * 1301 + 58 * (4 * 10 + 32) bytes: 575 such groups.
    """
    tokens = counts.context_tokens + counts.impression_tokens
    # A token has a row and a weight; an impression a length for each field, an id, labels.
    num_bytes = 8 * tokens + counts.impressions * (4 * len(spec.impression_fields) + 32)
    wanted = _ARROW_BATCH_BYTES * counts.groups // max(num_bytes, 1)
    return min(max(wanted, 1), _MAX_GROUPS_PER_BATCH)


@contextmanager
def _groups_per_batch(spark: SparkSession, num_groups: int) -> Iterator[None]:
    before = spark.conf.get(_GROUPS_PER_BATCH_KEY)
    spark.conf.set(_GROUPS_PER_BATCH_KEY, str(num_groups))
    try:
        yield
    finally:
        if before is not None:
            spark.conf.set(_GROUPS_PER_BATCH_KEY, before)


def _count_rows(folder: str) -> int:
    """Returns the rows of the Parquet files in `folder`, from their footers."""
    filesystem, path = storage.filesystem_of(folder)
    num_rows = 0
    for name, _ in storage.list_files(folder, ".parquet", recursive=False):
        with filesystem.open_input_file(posixpath.join(path, name)) as file:
            num_rows += pq.read_metadata(file).num_rows
    return num_rows
