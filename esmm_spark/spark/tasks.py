"""Runs numbered tasks in Spark that write files themselves and report once each.

Spark hands the driver one report per task, that of an attempt which succeeded, however often the task ran.
Files are named after the attempt (`files/attempts.py`), and the driver keeps those that reports name.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.files.attempts import attempt_name
from esmm_spark.spark.steps import step


class TaskReport(BaseModel):
    """What one task wrote; it travels as JSON.

    Attributes:
        task: the task's number, from 0.
    """

    model_config = ConfigDict(extra="forbid")

    task: int


class Attempt(NamedTuple):
    """One try of a task.

    Attributes:
        task: the task's number.
        file: a file name that no other attempt has.
    """

    task: int
    file: str


R = TypeVar("R", bound=TaskReport)


def run_tasks(
    spark: SparkSession, name: str, count: int, run: Callable[[Attempt], R], kind: type[R], at_once: int = 0
) -> list[R]:
    """Runs tasks that need nothing but their number; returns their reports in the tasks' order.

    Args:
        spark: the session.
        name: of the step, as a person sees it.
        count: how many tasks.
        run: does one of them.
        kind: what it returns.
        at_once: partitions that share the tasks, one per task where it is 0.

    Raises:
        CountMismatchError: a report is missing, or there twice.
    """

    def run_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column("id").to_pylist():
                yield _record(run(_attempt(task)))

    return _collect(spark.range(0, count, 1, at_once or count), name, count, run_partition, kind)


def run_partitions(
    frame: DataFrame,
    name: str,
    count: int,
    run: Callable[[Iterable[pa.RecordBatch], Attempt], R],
    kind: type[R],
) -> list[R]:
    """Runs a task for each partition of a DataFrame; returns their reports in the partitions' order.

    Args:
        frame: what the tasks read.
        name: of the step, as a person sees it.
        count: the partitions of `frame`.
        run: does one of them, given its batches.
        kind: what it returns.

    Raises:
        CountMismatchError: a report is missing, or there twice.
    """

    def run_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        assert context is not None
        yield _record(run(batches, _attempt(context.partitionId())))

    return _collect(frame, name, count, run_partition, kind)


def _attempt(task: int) -> Attempt:
    context = TaskContext.get()
    assert context is not None
    return Attempt(task, attempt_name(task, context.taskAttemptId()))


def _record(report: TaskReport) -> pa.RecordBatch:
    return pa.record_batch([pa.array([report.model_dump_json()])], names=["report"])


def _collect(
    frame: DataFrame,
    name: str,
    count: int,
    run_partition: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    kind: type[R],
) -> list[R]:
    """Returns the reports of all tasks, in their order."""
    with step(frame.sparkSession, name):
        records = frame.mapInArrow(run_partition, "report string").collect()
    reports = sorted(
        (kind.model_validate_json(record.report) for record in records), key=lambda report: report.task
    )
    if [report.task for report in reports] != list(range(count)):
        found = len({report.task for report in reports})
        raise CountMismatchError(
            f"{name}: {len(reports)} reports of {found} tasks, {count} ran: a defect, nothing was replaced"
        )
    return reports
