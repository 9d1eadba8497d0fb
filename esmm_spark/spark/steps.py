"""Progress of Spark's job groups: a step's name, its tasks done of all, an estimate of the time left.

All of it goes to stderr, as `runtime/progress.py` shows it: a bar on a terminal, else a line every ten
seconds.
"""

import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from typing import NamedTuple, TextIO

from pyspark.sql import SparkSession

from esmm_spark.runtime.progress import Bars, Display, LineDisplay, duration, how_far
from esmm_spark.runtime.run_notes import stage

_SECONDS_BETWEEN_LOOKS = 0.2
_GROUP = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
_numbers = count(1)


class TaskCounts(NamedTuple):
    """The tasks of a step's Spark jobs.

    Attributes:
        done: tasks that have ended well.
        total: tasks of all jobs that have begun; Spark often begins a job only once another one's sizes are
            known, so the number may grow.
    """

    done: int
    total: int


@contextmanager
def step(spark: SparkSession, name: str) -> Iterator[None]:
    """Shows how far the Spark jobs of the block are, and gives them its name in Spark's UI.

    Jobs that other threads start don't count.

    Args:
        spark: the session.
        name: what is done, such as `group the lines of train`.
    """
    context = spark.sparkContext
    before = [context.getLocalProperty(key) for key in _GROUP]
    group = f"esmm_spark step {next(_numbers)}"
    context.setJobGroup(group, name)
    display = _display()
    display.begin(name)
    started_s, ended = time.monotonic(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(spark, group, display, started_s, ended), daemon=True)
    watcher.start()
    succeeded = False
    try:
        with stage(name):
            yield
        succeeded = True
    finally:
        ended.set()
        watcher.join()
        # What ends otherwise tells of itself.
        if succeeded:
            display.end(f"done in {duration(time.monotonic() - started_s)}")
        display.close()
        # Where the JVM has ended the block's own exception tells of it.
        with suppress(Exception):
            for key, value in zip(_GROUP, before, strict=True):
                context.setLocalProperty(key, value)  # type: ignore[arg-type]


def count_tasks(spark: SparkSession, group: str) -> TaskCounts:
    """Returns the tasks of a job group, of the last 1,000 jobs (spark.ui.retainedJobs)."""
    tracker = spark.sparkContext.statusTracker()
    done = total = 0
    for job_id in tracker.getJobIdsForGroup(group):
        job = tracker.getJobInfo(job_id)
        if job is None:
            continue
        for stage_id in job.stageIds:
            stage = tracker.getStageInfo(stage_id)
            if stage is not None:
                done += stage.numCompletedTasks
                # Stages of a job that has ended and whose output was there already were never run.
                total += stage.numTasks if job.status == "RUNNING" else stage.numCompletedTasks
    return TaskCounts(done, total)


@cache
def terminal() -> TextIO | None:
    """Returns the terminal that stderr is, None where it is none.

    Below spark-submit it is spark-submit's own: its JVM reads all that Python writes, and passes it on.
    """
    if sys.stderr.isatty():
        return sys.stderr
    theirs = f"/proc/{os.getppid()}/fd/2"
    try:
        if "PYSPARK_GATEWAY_PORT" not in os.environ or not stat.S_ISCHR(os.stat(theirs).st_mode):
            return None
        stream = os.fdopen(os.open(theirs, os.O_WRONLY | os.O_NOCTTY), "w")
    except OSError:
        return None
    return stream if stream.isatty() else None


def _display() -> Display:
    screen = terminal()
    return LineDisplay("stderr") if screen is None else Bars(screen)


def _watch(
    spark: SparkSession, group: str, display: Display, started_s: float, ended: threading.Event
) -> None:
    """Shows the step again and again until it has ended."""
    while not ended.wait(_SECONDS_BETWEEN_LOOKS):
        if not display.is_due():
            continue
        try:
            tasks = count_tasks(spark, group)
        except Exception:
            # The JVM has ended: the step's own call says so, and this thread has nothing left to show.
            return
        if not ended.is_set():
            elapsed_s = time.monotonic() - started_s
            display.show(tasks.done, tasks.total, how_far(tasks.done, tasks.total, "tasks", elapsed_s))
