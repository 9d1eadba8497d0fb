"""A standalone Spark cluster gives local mode's rows, also when its processes are killed at their work."""

import contextlib
import json
import os
import shutil
import signal
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyspark.sql import SparkSession

from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.samples.dataset import preprocess
from tests.cluster.runs import Run, assert_same_examples
from tests.cluster.standalone import Job, Standalone, finish, free_port, kill_session, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(1200)]

# Executors come when there are tasks for them, none is there at first; attempts beside others come soon.
DYNAMIC = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.initialExecutors": "0",
    "spark.dynamicAllocation.maxExecutors": "2",
    "spark.speculation": "true",
    "spark.speculation.quantile": "0.5",
    "spark.speculation.multiplier": "1.5",
    "spark.ui.enabled": "true",
}


def start_until_a_task_writes(cluster: Standalone, run: Run, options: Mapping[str, str] | None = None) -> Job:
    """Starts preprocess, with Spark's `options`, and returns it once the first of its tasks writes."""
    job = cluster.start("preprocess", *run.arguments, options=options)
    wait_until(lambda: bool(run.staged()), "a task writes", [job])
    return job


@pytest.mark.parametrize("victim", ["executor", "worker"])
def test_a_process_killed_while_tasks_write_changes_no_row(
    request: pytest.FixtureRequest, local: Run, raw: Path, tmp_path: Path, victim: str
) -> None:
    cluster: Standalone = request.getfixturevalue("steady" if victim == "executor" else "cluster")
    run = Run("demo", raw, tmp_path / "run")
    job = start_until_a_task_writes(cluster, run)
    executors = cluster.executors()
    assert len(executors) == 2
    os.kill(executors[0].pid if victim == "executor" else cluster.workers[0].pid, signal.SIGKILL)
    assert len(run.staged()) < len(read_manifest(str(local.dataset)).partitions["split=train"].files)
    finish(job)
    assert_same_examples(run, local)


def files_in(folder: Path) -> dict[Path, bytes]:
    """Returns relative path -> content of every file."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_driver_killed_while_tasks_write_leaves_what_was_there_and_a_rerun_completes(
    spark: SparkSession, steady: Standalone, local: Run, raw: Path, tmp_path: Path
) -> None:
    run, older = (
        Run("demo", raw, tmp_path / "run"),
        Run("demo", raw, tmp_path / "older", samples__num_files=3),
    )
    preprocess(spark, older.config)
    shutil.copytree(older.dataset, run.dataset)
    before = files_in(run.dataset)
    job = start_until_a_task_writes(steady, run)
    kill_session(job.pid)
    job.communicate()
    assert files_in(run.dataset) == before
    assert run.staged()
    wait_until(lambda: not steady.executors(), "the executors of a driver that is gone end")
    steady.run("preprocess", *run.arguments)
    assert_same_examples(run, local)
    assert not run.staged()


def asked(ui_port: int, path: str = "") -> list[dict[str, Any]]:
    """Returns what the driver at work answers about `path`, of Spark's REST interface."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{ui_port}/api/v1/applications{path}", timeout=20
    ) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def speculative_attempts(ui_port: int) -> list[dict[str, Any]]:
    """Returns the speculative attempts that the driver has started."""
    (application,) = asked(ui_port)
    stages = asked(ui_port, f"/{application['id']}/stages?details=true")
    return [task for stage in stages for task in stage["tasks"].values() if task["speculative"]]


def test_an_attempt_beside_one_that_stands_still_on_executors_that_come_and_go_changes_no_row(
    steady: Standalone, local: Run, raw: Path, tmp_path: Path
) -> None:
    run, ui_port = Run("demo", raw, tmp_path / "run"), free_port()
    job = start_until_a_task_writes(steady, run, {**DYNAMIC, "spark.ui.port": str(ui_port)})
    # Below an executor: the parent of its Python workers, and those.
    workers_of = [
        [worker for parent in executor.children() for worker in parent.children(recursive=True)]
        for executor in steady.executors()
    ]
    stopped = next(workers for workers in workers_of if workers)
    for worker in stopped:
        worker.suspend()
    try:
        wait_until(lambda: bool(speculative_attempts(ui_port)), "a speculative attempt starts", [job])
    finally:
        # It goes on beside the other one, unless Spark has ended it.
        for worker in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.resume()
    finish(job)
    assert_same_examples(run, local)
