"""What a person sees of a long Spark step: its name, how many of its tasks are done, and for how long yet.

On a terminal a bar, from the first second on; in a log a line every ten seconds:

    group the lines of train: 12 of 40 tasks, about 25 s left
    group the lines of train: done in 41 s

A step that ends within these ten seconds leaves no line. All of it goes to stderr.
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
from typing import Any, NamedTuple, Protocol, TextIO

from pyspark.sql import SparkSession

SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.5
_GROUP = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
_numbers = count(1)


class Tasks(NamedTuple):
    """The tasks of a step's Spark jobs.

    Attributes:
        done: tasks that have ended well.
        total: tasks of all jobs that have begun; Spark often begins a job only once another one's sizes are
            known, so the number may grow.
    """

    done: int
    total: int


class Display(Protocol):
    """Shows how far a step is."""

    seconds_between: float

    def show(self, tasks: Tasks, elapsed_s: float) -> None:
        """Shows the step as it is now, `elapsed_s` after its beginning."""

    def close(self, elapsed_s: float, succeeded: bool) -> None:
        """Ends the display."""


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
    screen = terminal()
    display = LineDisplay(name) if screen is None else BarDisplay(name, screen)
    started_s, ended = time.monotonic(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(spark, group, display, started_s, ended), daemon=True)
    watcher.start()
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        ended.set()
        watcher.join()
        display.close(time.monotonic() - started_s, succeeded)
        # Where the JVM has ended the block's own exception tells of it.
        with suppress(Exception):
            for key, value in zip(_GROUP, before, strict=True):
                context.setLocalProperty(key, value)  # type: ignore[arg-type]


def count_tasks(spark: SparkSession, group: str) -> Tasks:
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
    return Tasks(done, total)


class LineDisplay:
    """Lines for a log; none for a step that ends before the first is due."""

    seconds_between = SECONDS_BETWEEN_LINES

    def __init__(self, name: str) -> None:
        self._name, self._has_shown = name, False

    def show(self, tasks: Tasks, elapsed_s: float) -> None:
        """Prints a line."""
        self._has_shown = True
        self._print(description(tasks, elapsed_s))

    def close(self, elapsed_s: float, succeeded: bool) -> None:
        """Says that the step is done, if anything was said of it. What ends otherwise tells of itself."""
        if self._has_shown and succeeded:
            self._print(f"done in {seconds(elapsed_s)}")

    def _print(self, text: str) -> None:
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)


class BarDisplay:
    """A rich bar on a terminal, which stays there when the step has ended; none for a short step."""

    seconds_between = _SECONDS_BETWEEN_FRAMES

    def __init__(self, name: str, screen: TextIO) -> None:
        self._name, self._screen = name, screen
        self._bar: Any = None

    def show(self, tasks: Tasks, elapsed_s: float) -> None:
        """Moves the bar."""
        if elapsed_s >= 1:
            self._update(tasks.done, tasks.total or None, description(tasks, elapsed_s))

    def close(self, elapsed_s: float, succeeded: bool) -> None:
        """Leaves the bar as it is, full if the step is done."""
        if self._bar is None:
            return
        if succeeded:
            self._update(1, 1, f"done in {seconds(elapsed_s)}")
        self._bar.stop()

    def _update(self, done: int, total: int | None, text: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        if self._bar is None:
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}")
            # What is printed meanwhile goes where it would go: stdout may be a file.
            console = Console(file=self._screen)
            self._bar = Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False)
            self._bar.start()
            self._bar.add_task(self._name, text="")
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, text=text)


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


def description(tasks: Tasks, elapsed_s: float) -> str:
    """Returns `12 of 40 tasks, about 25 s left`, or the time so far where there is nothing to go by.

    The estimate takes the tasks that are left for as long as those that are done.
    """
    if tasks.total == 0:
        return seconds(elapsed_s)
    text = f"{tasks.done:,} of {tasks.total:,} tasks, "
    if tasks.done in (0, tasks.total):
        return text + seconds(elapsed_s)
    return text + f"about {seconds(elapsed_s * (tasks.total - tasks.done) / tasks.done)} left"


def seconds(duration_s: float) -> str:
    """Returns `41 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(duration_s)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _watch(
    spark: SparkSession, group: str, display: Display, started_s: float, ended: threading.Event
) -> None:
    """Shows the step again and again until it has ended."""
    while not ended.wait(display.seconds_between):
        try:
            tasks = count_tasks(spark, group)
        except Exception:
            # The JVM has ended: the step's own call says so, and this thread has nothing left to show.
            return
        if not ended.is_set():
            display.show(tasks, time.monotonic() - started_s)
