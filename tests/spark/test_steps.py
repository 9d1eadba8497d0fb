"""Long Spark steps: what a log and a terminal show of them."""

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from esmm_spark.runtime.progress import LineDisplay
from esmm_spark.spark import steps
from esmm_spark.spark.steps import step
from tests.repository import ROOT


def slow_job(spark: SparkSession, num_tasks: int) -> int:
    def wait(rows: Iterable[int]) -> Iterable[int]:
        time.sleep(0.3)
        return rows

    return spark.sparkContext.parallelize(range(num_tasks), num_tasks).mapPartitions(wait).count()


@pytest.mark.spark
def test_a_long_step_says_in_a_log_how_far_its_own_jobs_are_and_that_it_is_done(
    spark: SparkSession, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(steps, "_display", lambda: LineDisplay("stderr", 0.1, 0.1))
    slow_job(spark, 2)
    with step(spark, "outer"):
        with step(spark, "count slowly"):
            slow_job(spark, 6)
        assert spark.sparkContext.getLocalProperty("spark.job.description") == "outer"
    assert spark.sparkContext.getLocalProperty("spark.jobGroup.id") is None
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("count slowly: ")]
    done = [int(found[1]) for line in lines if (found := re.search(r": (\d) of 6 tasks, ", line))]
    assert done == sorted(done)
    assert done[0] < done[-1] <= 6
    assert any(re.fullmatch(r"count slowly: \d of 6 tasks, about \d+ s left", line) for line in lines)
    assert re.fullmatch(r"count slowly: done in \d+ s", lines[-1])


def _fail_after_s(seconds: float) -> None:
    time.sleep(seconds)
    raise ZeroDivisionError


@pytest.mark.spark
def test_a_short_step_and_one_that_fails_print_nothing_of_their_end(
    spark: SparkSession, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with step(spark, "short"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(steps, "_SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(steps, "_display", lambda: LineDisplay("stderr", 0.1, 0.1))
    with pytest.raises(ZeroDivisionError), step(spark, "failing"):
        _fail_after_s(0.5)
    assert re.fullmatch(r"(failing: \d+ s\n)+", capsys.readouterr().err)


@pytest.mark.slow
def test_below_spark_submit_the_terminal_is_its_own_and_a_log_stays_as_it_is(tmp_path: Path) -> None:
    ours = "from esmm_spark.spark import steps; t = steps.terminal(); t and print('seen', file=t, flush=True)"
    theirs = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], stdout=-1, stderr=-2)"
    )
    command = [sys.executable, "-c", theirs, ours]
    environment = {**os.environ, "PYSPARK_GATEWAY_PORT": "1"}
    leader, follower = pty.openpty()
    log = tmp_path / "log"
    log.write_text("before\n")
    try:
        subprocess.run(command, stderr=follower, env=environment, cwd=ROOT, check=True, timeout=120)
        assert os.read(leader, 100) == b"seen\r\n"
        with log.open("a") as file:
            subprocess.run(command, stderr=file, env=environment, cwd=ROOT, check=True, timeout=120)
    finally:
        os.close(leader)
        os.close(follower)
    assert log.read_text() == "before\n"
