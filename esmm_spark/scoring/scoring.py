"""Scores a partition from its config: finds model and groups, runs the tasks, checks the counts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.manifest import require_same_spec, require_same_tasks
from esmm_spark.contracts.schemas.layout import MARKER, SCORE_NAME, SCORE_REJECTS
from esmm_spark.contracts.schemas.model_info import ModelInfo
from esmm_spark.contracts.schemas.records import MEAN_PREFIX, ScoreInput, ScoreRecord
from esmm_spark.contracts.tasks import called
from esmm_spark.files import filesystems, footers, seals, storage
from esmm_spark.files.attempts import keep_attempt
from esmm_spark.files.replacing import Replacement, replacing
from esmm_spark.model.directory import find_model, read_info
from esmm_spark.scoring.partition import OURS, find_record, partition_uri
from esmm_spark.scoring.sources import GroupSource, describe_input, open_source
from esmm_spark.scoring.task import ScoreJob, ScoreReport, run_task
from esmm_spark.scoring.work import num_tasks, work_per_task
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.tasks import run_tasks

# Below the staged partition. Spark and pyarrow read only what begins with neither `_` nor `.`.
_ATTEMPTS, _EXAMPLES = "_attempts", "_examples"


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
        known = [f"{_called(name)} {mean:.4g}" for name, mean in record.means.items() if mean is not None]
        means = f"\nmean {', '.join(known)}" if known else ""
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
        record = find_record(self.folder)
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
    require_same_tasks(config.tasks, "the config", info.tasks, f"model {model_uri}")
    folder = partition_uri(config.paths.scores, config.score.partition)
    return ScoringPlan(config, model_uri, info, folder, describe_input(config, info))


def score(spark: SparkSession, plan: ScoringPlan) -> Scored:
    """Scores the plan's impressions and puts the scores in the place of the partition.

    Until all scores are written and counted the partition is what it was before.

    Raises:
        TargetBusyError: another run scores the partition.
        InputError: a file is truncated, corrupt or empty, or something foreign lies in the partition.
        TooManyRejectsError: raw files have more bad lines than `logs.max_reject_fraction` allows.
        CountMismatchError: there are more or fewer scores than impressions.
    """
    what = f"paths.scores {plan.folder}"
    with (
        replacing(plan.folder, "paths.scores", OURS) as new,
        user_errors(spark, "mend the raw files", what),
    ):
        record = _write_scores(spark, plan, new)
    return Scored(plan.folder, record, is_new=True)


def _write_scores(spark: SparkSession, plan: ScoringPlan, new: Replacement) -> ScoreRecord:
    """Writes the scores, what is to be said of them, which is returned, and the rejected lines."""
    staged = new.folder
    rejects_folder = storage.join(staged, SCORE_REJECTS)
    with open_source(
        spark, plan.config, plan.info, plan.model_uri, storage.join(staged, _EXAMPLES)
    ) as source:
        reports = _score_all(spark, plan, source, storage.join(staged, _ATTEMPTS))
        written = sum(report.impressions for report in reports)
        if written != source.counts.impressions:
            raise CountMismatchError(
                f"{written:,} scores were written for {source.counts.impressions:,} impressions "
                f"({', '.join(plan.inputs.paths)}): {plan.folder} stays as it was"
            )
        new.digests = _keep_files(staged, reports)
        scores = list(new.digests)
        if source.rejects_folder is not None:
            storage.move(source.rejects_folder, rejects_folder)
            seals.seal(rejects_folder, (".parquet",))
    record = ScoreRecord(
        input=plan.inputs, impressions=written, rejects=source.rejects, **_means(reports, plan)
    )
    footers.require_count(staged, scores, record.impressions, "scores")
    rejects = [name for name, _ in storage.list_files(rejects_folder)]
    lines = [name for name in rejects if name != MARKER]
    footers.require_count(rejects_folder, lines, sum(record.rejects.values()), "rejected lines")
    storage.write_text(storage.join(staged, SCORE_NAME), record.model_dump_json(indent=1) + "\n")
    new.files = [SCORE_NAME, *scores, *(f"{SCORE_REJECTS}/{name}" for name in rejects)]
    return record


def _score_all(spark: SparkSession, plan: ScoringPlan, source: GroupSource, folder: str) -> list[ScoreReport]:
    """Has Spark score everything; returns the tasks' reports on the files in `folder`, in their order."""
    cores = spark.sparkContext.defaultParallelism
    tasks = plan.config.score.num_files or num_tasks(source.counts.impressions, cores)
    job = ScoreJob(
        dataset=filesystems.absolute(source.dataset),
        model_uri=filesystems.absolute(plan.model_uri),
        model_version=plan.info.model_version,
        folder=folder,
        carry=source.carry,
        batch_size=plan.config.score.batch_size,
        shares=work_per_task(source.counts, tasks),
    )
    storage.make_directory(folder)

    name = f"score {plan.config.score.partition}"
    return run_tasks(spark, name, len(job.shares), lambda attempt: run_task(job, attempt), ScoreReport)


def _keep_files(staged: str, reports: list[ScoreReport]) -> dict[str, str]:
    """Moves the reported files into the staged partition, deletes all others; returns name -> SHA-256."""
    attempts = storage.join(staged, _ATTEMPTS)
    digests = {keep_attempt(attempts, report.file, staged): report.sha256 for report in reports}
    storage.delete(attempts)
    return digests


def _means(reports: list[ScoreReport], plan: ScoringPlan) -> dict[str, Any]:
    """Returns the means of all scores, by the names of ScoreRecord."""
    impressions = sum(report.impressions for report in reports)
    totals = np.sum([report.sums for report in reports], axis=0).tolist()
    return {
        f"{MEAN_PREFIX}{name}": total / impressions if impressions else None
        for name, total in zip(plan.info.tasks.all_score_columns, totals, strict=True)
    }


def _called(column: str) -> str:
    """Returns how people read a column of scores: `pCTR`, `p_repurchase`."""
    paper = called(column)
    return f"p{paper}" if paper else column
