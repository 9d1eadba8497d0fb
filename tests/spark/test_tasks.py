"""Numbered tasks and their reports."""

from collections.abc import Iterable

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.spark.tasks import Attempt, TaskReport, run_partitions, run_tasks

pytestmark = pytest.mark.spark


class Seen(TaskReport):
    file: str
    rows: int = 0


@pytest.mark.parametrize("at_once", [0, 1, 2])
def test_each_task_runs_once_and_reports_come_in_their_order(spark: SparkSession, at_once: int) -> None:
    def run(attempt: Attempt) -> Seen:
        return Seen(task=attempt.task, file=attempt.file)

    reports = run_tasks(spark, "count", 5, run, Seen, at_once)
    assert [report.task for report in reports] == [0, 1, 2, 3, 4]
    assert [report.file[:11] for report in reports] == [f"part-{task:05d}." for task in range(5)]
    assert len({report.file for report in reports}) == 5


def test_each_partition_is_a_task_that_is_given_its_rows(spark: SparkSession) -> None:
    def run(batches: Iterable[pa.RecordBatch], attempt: Attempt) -> Seen:
        return Seen(task=attempt.task, file=attempt.file, rows=sum(batch.num_rows for batch in batches))

    frame = spark.range(0, 10, 1, 3).filter("id < 4")
    reports = run_partitions(frame, "count", 3, run, Seen)
    # The last partition is empty: a task all the same.
    assert [(report.task, report.rows) for report in reports] == [(0, 3), (1, 1), (2, 0)]


def test_a_report_too_many_or_too_few_is_a_defect(spark: SparkSession) -> None:
    def run(batches: Iterable[pa.RecordBatch], attempt: Attempt) -> Seen:
        return Seen(task=attempt.task, file=attempt.file)

    def run_all_as_one(attempt: Attempt) -> Seen:
        return Seen(task=0, file=attempt.file)

    with pytest.raises(CountMismatchError, match="count: 3 reports of 3 tasks, 4 ran: a defect"):
        run_partitions(spark.range(0, 10, 1, 3), "count", 4, run, Seen)
    with pytest.raises(CountMismatchError, match="count: 2 reports of 1 tasks, 2 ran: a defect"):
        run_tasks(spark, "count", 2, run_all_as_one, Seen)
