"""The groups to score: a dataset's examples, or those that are made of raw files.

Raw files first become examples in a folder of their own, by the very code that preprocesses: so a value has
the row that it had in training, lines are counted and rejected alike, and there is one way to score. That
folder is gone once its scores are written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.disjoint_paths import ConfigPath, paths_of
from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.fields.fitted import require_same_fitted
from esmm_spark.contracts.impressions import DEFAULT_COLUMNS, CarriedKind
from esmm_spark.contracts.manifest import PartitionCounts, SourceCounts, require_same_spec, require_same_tasks
from esmm_spark.contracts.schemas.layout import REJECTS, VOCABULARY
from esmm_spark.contracts.schemas.model_info import ModelInfo
from esmm_spark.contracts.schemas.records import ScoreInput
from esmm_spark.files import storage
from esmm_spark.files.fingerprints import fingerprints_at, fingerprints_of
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.logs.formats import FORMATS, reader_of
from esmm_spark.logs.reasons import UNKNOWN_CONTEXT_NAME
from esmm_spark.logs.splits import OpenLog, SplitLines
from esmm_spark.samples.counting import REJECTED_CONTEXTS, account_for
from esmm_spark.samples.dataset import check_rejects
from esmm_spark.samples.examples import write_examples
from esmm_spark.samples.plan import GroupingPlan
from esmm_spark.scoring.partition import digest_of
from esmm_spark.tables.table_log import read_scored_table

_RAW, _TABLE = "raw", "table"


@dataclass(frozen=True)
class GroupSource:
    """Groups to score.

    Attributes:
        dataset: URI of the folder that their files are relative to.
        carry: the carried columns in them.
        counts: the files, and how many groups and impressions are in them: what the scores are held against.
        rejects: reason -> raw lines that became no impression, or no context.
        rejects_folder: where these lines are, if there are any.
    """

    dataset: str
    carry: dict[str, CarriedKind]
    counts: PartitionCounts
    rejects: dict[str, int]
    rejects_folder: str | None = None


def describe_input(config: Config, info: ModelInfo) -> ScoreInput:
    """Returns what the scores of `score.partition` follow from, without Spark.

    Raises:
        ConfigError: raw files of a format that doesn't come in splits.
        InputError: no dataset, no such partition, or a file is missing.
        IncompleteError, UnsafeFileError: the dataset is half-written, or carries a pickle.
        SpecMismatchError: the dataset was made with another spec, or other boundaries, than the model.
    """
    section = config.score
    if section.source == "raw":
        paths = _raw_paths(config)
        content = str([fingerprints_at(path) for path in paths])
    else:
        dataset = config.paths.dataset
        manifest = read_manifest(dataset)
        names = f"dataset {dataset}", f"model {info.model_version} in {config.paths.model}"
        require_same_spec(manifest.feature_spec, names[0], info.feature_spec, names[1])
        require_same_fitted(manifest.fitted, names[0], info.fitted, names[1])
        require_same_tasks(manifest.tasks, names[0], info.tasks, names[1])
        counts = manifest.partition(section.partition, dataset)
        files = [storage.join(dataset, file.path) for file in counts.files]
        paths, content = [dataset], f"{counts.model_dump_json()} {fingerprints_of(dataset, files)}"
    return ScoreInput(
        model_version=info.model_version,
        feature_spec_digest=info.feature_spec_digest,
        source=section.source,
        paths=paths,
        digest=digest_of(content.encode()),
    )


def read_by_spark(config: Config) -> list[ConfigPath]:
    """Returns the paths that Spark itself reads: examples are read, and scores are written, past it."""
    paths = paths_of(config) if config.score.source == "raw" else []
    return [path for path in paths if path.key.startswith("score.")]


def _raw_paths(config: Config) -> list[str]:
    """Returns what is scored where `score.source` is `raw`."""
    section, log_format = config.score, config.logs.format
    if log_format not in (*FORMATS, _TABLE):
        raise ConfigError(
            f"score.source is raw, which reads files of {', '.join((*FORMATS, _TABLE))}, and logs.format is "
            f"{log_format}: run jobs/preprocess.py and score its examples"
        )
    if log_format == _TABLE:
        if section.table is None:
            raise ConfigError("score.source is raw and logs.format is table: set score.table")
        return [section.table]
    if section.raw is None:
        raise ConfigError(
            f"score.source is raw and logs.format is {log_format}: set score.raw.skeleton and "
            "score.raw.common_features"
        )
    return [section.raw.skeleton, section.raw.common_features]


def why_nothing_is_left(contexts: SourceCounts, impressions: SourceCounts) -> str:
    """Returns a message for raw files of which no impression became an example."""
    if not impressions.rejects:
        return f"{impressions.path} holds blank lines alone: there is nothing to score"
    reason, number = max(impressions.rejects.items(), key=lambda item: item[1])
    message = (
        f"no impression of {impressions.path} can be scored: {number} of {impressions.lines_read} lines are "
        f"rejected as {reason}"
    )
    if reason == UNKNOWN_CONTEXT_NAME:
        bad = ", ".join(f"{reason} {count}" for reason, count in contexts.rejects.items())
        message += f", their index stands in no good line of {contexts.path}" + (f" ({bad})" if bad else "")
    return f"{message}: docs/line-format.md tells what a line must be"


@contextmanager
def open_source(
    spark: SparkSession, config: Config, info: ModelInfo, model_uri: str, workplace: str
) -> Iterator[GroupSource]:
    """Yields the groups of `score.partition`, which can be read until the context ends.

    Args:
        spark: the session.
        config: the whole config.
        info: of the model.
        model_uri: the model version, whose vocabulary says which values of raw files are frequent.
        workplace: a folder that is this run's own, for the examples of raw files.

    Raises:
        InputError: raw files that are missing or empty.
        TooManyRejectsError: a raw file has more bad lines than `logs.max_reject_fraction` allows.
        CountMismatchError: a raw line got lost.
    """
    if config.score.source == "examples":
        dataset = config.paths.dataset
        manifest = read_manifest(dataset)
        counts = manifest.partition(config.score.partition, dataset)
        yield GroupSource(dataset, manifest.carry, counts, rejects={})
        return
    storage.delete(workplace)
    try:
        yield _group_raw_files(spark, config, info, model_uri, workplace)
    finally:
        storage.delete(workplace)


def _group_raw_files(
    spark: SparkSession, config: Config, info: ModelInfo, model_uri: str, folder: str
) -> GroupSource:
    """Writes the raw files' examples to `folder` and returns them."""
    partition, is_table = config.score.partition, config.logs.format == _TABLE
    brought = config.brought if is_table else DEFAULT_COLUMNS
    plan = GroupingPlan(
        spec=info.feature_spec,
        brought=brought,
        dataset=folder,
        partition=partition,
        source=_RAW,
        samples=config.samples,
        vocabulary=storage.join(model_uri, VOCABULARY) if info.feature_spec.needs_vocabulary else None,
        for_scoring=True,
    )
    log = read_scored_table(spark, config, folder, info.fitted) if is_table else _read_raw(spark, config)
    (split,) = log.splits
    written = write_examples(spark, split.lines, split.paths, plan, None)
    sources = written.sources
    if split.source is not None:
        account_for(split.source, written.sources)
        sources = [split.source]
    rejects: dict[str, int] = {}
    for source in sources:
        check_rejects(source, config.logs.max_reject_fraction)
        of_contexts = source.notes.get(REJECTED_CONTEXTS, 0)
        for reason, lines in [*source.rejects.items(), (REJECTED_CONTEXTS, of_contexts)]:
            if lines:
                rejects[reason] = rejects.get(reason, 0) + lines
    if partition not in written.partitions:
        raise InputError(why_nothing_is_left(written.sources[0], written.sources[1]))
    return GroupSource(
        folder,
        dict(brought.carry),
        written.partitions[partition],
        rejects,
        storage.join(folder, REJECTS) if rejects else None,
    )


def _read_raw(spark: SparkSession, config: Config) -> OpenLog:
    """Returns the files of `score.raw` as one split."""
    raw = config.score.raw
    assert raw is not None
    lines = reader_of(config.logs.format)(spark, raw)
    return OpenLog([SplitLines(_RAW, lines, (raw.common_features, raw.skeleton))], [], [])
