"""What one Spark task does: row groups of the examples in, one file of scores out, one report.

The rows never pass through the JVM: lists of tokens would be turned from Parquet into rows, from rows into
Arrow, and the scores take the same way back, which costs three times as much as the model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from pyspark import TaskContext

from esmm_spark.contracts.schemas.columns import PROBABILITIES
from esmm_spark.feed.row_groups import read_row_groups
from esmm_spark.files import storage
from esmm_spark.files.attempts import attempt_name
from esmm_spark.scoring.predictor import Predictor, predictor_of
from esmm_spark.scoring.score_file import ScoreFile
from esmm_spark.scoring.work import Work


@dataclass(frozen=True)
class ScoreJob:
    """What all tasks need to know.

    Attributes:
        dataset: URI of the examples' dataset, not relative.
        model_uri: the model version, not relative.
        model_version: its name.
        folder: URI of the folder that attempts write to, not relative.
        batch_size: impressions that go through the model at a time, at most.
        shares: what each task scores.
    """

    dataset: str
    model_uri: str
    model_version: str
    folder: str
    batch_size: int
    shares: list[Work]


class ScoreReport(BaseModel):
    """What one task wrote. Only files that a task which Spark counts as done reports become scores."""

    model_config = ConfigDict(extra="forbid")

    task: int
    file: str
    sha256: str
    impressions: int
    sums: list[float]  # of pctr, pcvr and pctcvr


def run_tasks(batches: Iterable[pa.RecordBatch], job: ScoreJob) -> Iterator[pa.RecordBatch]:
    """Scores the shares that `batches` number; yields a row for each, its report as JSON.

    Args:
        batches: column `id`, indices of `job.shares`.
        job: what to score with what.

    Raises:
        EsmmSparkError: the model or the examples are damaged.
    """
    context = TaskContext.get()
    assert context is not None
    predictor = predictor_of(job.model_uri, job.model_version)
    for batch in batches:
        for task in batch.column("id").to_pylist():
            report = score_share(job, task, predictor, attempt_name(task, context.taskAttemptId()))
            yield pa.record_batch([pa.array([report.model_dump_json()])], names=["report"])


def score_share(job: ScoreJob, task: int, predictor: Predictor, name: str) -> ScoreReport:
    """Writes the scores of share `task` to the file `name` in `job.folder`, and returns what was written."""
    file = ScoreFile(storage.join(job.folder, name))
    sums = np.zeros(len(PROBABILITIES))
    for groups in read_row_groups(job.dataset, job.shares[task], predictor.info.feature_spec):
        scores = predictor.score_groups(groups, job.batch_size)
        sums += [scores.column(name).to_numpy().sum(dtype=np.float64) for name in PROBABILITIES]
        file.write(scores)
    impressions, sha256 = file.close()
    return ScoreReport(task=task, file=name, sha256=sha256, impressions=impressions, sums=sums.tolist())
