"""A Spark task of scoring: row groups of the examples to one file of scores and one report.

The groups never pass through the JVM: lists of tokens would be turned from Parquet into its objects, from
them into Arrow, and the scores take the same way back, which costs three times as much as the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from esmm_spark.contracts.impressions import CarriedKind, ImpressionColumns
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.row_groups import read_row_groups
from esmm_spark.files import storage
from esmm_spark.scoring.predictor import Predictor, predictor_of
from esmm_spark.scoring.score_file import ScoreFile
from esmm_spark.scoring.work import Work
from esmm_spark.spark.tasks import Attempt, TaskReport


@dataclass(frozen=True)
class ScoreJob:
    """The parameters that all tasks of a scoring job share.

    Attributes:
        dataset: URI of the examples' dataset, not relative.
        model_uri: the model version, not relative.
        model_version: its name.
        folder: URI of the folder that attempts write to, not relative.
        carry: the carried columns of the examples.
        batch_size: impressions that go through the model at a time, at most.
        shares: what each task scores.
    """

    dataset: str
    model_uri: str
    model_version: str
    folder: str
    carry: Mapping[str, CarriedKind]
    batch_size: int
    shares: list[Work]


class ScoreReport(TaskReport):
    """What one task wrote. Only files that a task which Spark counts as done reports become scores."""

    file: str
    sha256: str
    impressions: int
    sums: list[float]  # of each column of `Tasks.all_score_columns`


def run_task(job: ScoreJob, attempt: Attempt) -> ScoreReport:
    """Scores one share in a Spark task, with the model that the process keeps; returns what was written.

    Raises:
        EsmmSparkError: the model or the examples are damaged.
    """
    return score_share(job, attempt, predictor_of(job.model_uri, job.model_version))


def score_share(job: ScoreJob, attempt: Attempt, predictor: Predictor) -> ScoreReport:
    """Writes the scores of the attempt's share to its file in `job.folder`, and returns what was written."""
    layout = Layout(
        predictor.info.feature_spec, ImpressionColumns(predictor.info.tasks, job.carry), for_scoring=True
    )
    file = ScoreFile(storage.join(job.folder, attempt.file), layout.brought)
    columns = predictor.info.tasks.all_score_columns
    sums = np.zeros(len(columns))
    for groups in read_row_groups(job.dataset, job.shares[attempt.task], layout):
        scores = predictor.score_groups(groups, layout, job.batch_size)
        sums += [scores.column(name).to_numpy().sum(dtype=np.float64) for name in columns]
        file.write(scores)
    impressions, sha256 = file.close()
    return ScoreReport(
        task=attempt.task, file=attempt.file, sha256=sha256, impressions=impressions, sums=sums.tolist()
    )
