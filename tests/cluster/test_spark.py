"""A standalone Spark cluster gives local mode's rows, also when its processes are killed at their work."""

import os
import signal
from pathlib import Path

import pytest

from esmm_spark.files.manifest_file import read_manifest
from tests.cluster.runs import Run, assert_same_examples
from tests.cluster.standalone import Job, Standalone, finish, kill_session, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(1200)]


def start_until_a_task_writes(cluster: Standalone, run: Run) -> Job:
    """Starts preprocess and returns it once the first of its tasks writes."""
    job = cluster.start("preprocess", *run.arguments)
    wait_until(lambda: bool(run.staged()), "a task writes", [job])
    return job


@pytest.mark.parametrize("victim", ["executor", "worker"])
def test_a_process_killed_while_tasks_write_changes_no_row(
    cluster: Standalone, local: Run, raw: Path, tmp_path: Path, victim: str
) -> None:
    run = Run("demo", raw, tmp_path / "run")
    job = start_until_a_task_writes(cluster, run)
    executors = cluster.executors()
    assert len(executors) == 2
    os.kill(executors[0].pid if victim == "executor" else cluster.workers[0].pid, signal.SIGKILL)
    assert len(run.staged()) < len(read_manifest(str(local.dataset)).partitions["split=train"].files)
    finish(job)
    assert_same_examples(run, local)


def test_a_driver_killed_while_tasks_write_leaves_what_was_there_and_a_rerun_completes(
    cluster: Standalone, local: Run, raw: Path, tmp_path: Path
) -> None:
    run = Run("demo", raw, tmp_path / "run")
    job = start_until_a_task_writes(cluster, run)
    kill_session(job.pid)
    job.communicate()
    assert not run.dataset.exists()
    assert run.staged()
    wait_until(lambda: not cluster.executors(), "the executors of a driver that is gone end")
    cluster.run("preprocess", *run.arguments)
    assert_same_examples(run, local)
