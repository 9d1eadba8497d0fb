"""`jobs/simulate.py` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.forked import run_script
from tests.repository import ROOT

JOB = ROOT / "jobs" / "simulate.py"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    environment.pop("PYSPARK_SUBMIT_ARGS", None)
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment, check=False
    )


def test_help_answers_without_starting_spark() -> None:
    started = time.process_time()
    result = run(sys.executable, JOB, "--help")
    assert time.process_time() - started < 1
    assert result.returncode == 0
    assert "--num-groups" in result.stdout
    imported = run(sys.executable, "-X", "importtime", JOB, "--help").stderr
    assert "pyspark" not in imported
    assert "numpy" not in imported


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-groups", "1", "--seed", "1"], "--num-groups 1: must be from 2 to"),
        (["--num-groups", "few", "--seed", "1"], "argument --num-groups: invalid int value: 'few'"),
        (["--num-groups", "9", "--seed", "-1"], "--seed -1: must be from 0 to"),
        (["--num-groups", "9"], "the following arguments are required: --seed"),
        (["--num-groups", "9", "--seed", "1", "--preset", "big"], "unknown preset 'big'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run_script("jobs/simulate.py", "--output", tmp_path / "raw", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.spark
@pytest.mark.slow
def test_ctrl_c_while_spark_works_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": "--master local[1] pyspark-shell"}
    arguments = ["--output", str(tmp_path / "raw"), "--num-groups", "200000", "--seed", "1"]
    with subprocess.Popen(
        [sys.executable, str(JOB), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As a terminal does: the signal goes to the JVM and the workers, too.
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 200
        while not any(
            path.name.endswith("staging") and any(path.rglob("part-*")) for path in tmp_path.iterdir()
        ):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, ""), errors
    lines = [line for line in errors.splitlines() if not line.startswith("simulate impressions: ")]
    assert lines == ["stopped by Ctrl-C: what was there before is whole"]
    (record,) = tmp_path.iterdir()
    assert record.name == "raw.run.json"
    assert json.loads(record.read_text())["exit_code"] == 130


@pytest.mark.spark
@pytest.mark.slow
def test_spark_submit_writes_the_files_and_prints_the_counts(tmp_path: Path) -> None:
    output = tmp_path / "raw"
    result = run(
        "spark-submit",
        *("--master", "local[2]", "--conf", "spark.driver.bindAddress=127.0.0.1"),
        *("--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.ui.enabled=false"),
        *(JOB, "--output", output, "--num-groups", "20", "--seed", "1", "--preset", "aliccp"),
    )
    assert result.returncode == 0, result.stderr
    num_lines = sum(
        len(file.read_bytes().splitlines())
        for split in ("train", "test")
        for file in (output / f"sample_skeleton_{split}").iterdir()
    )
    # A busy machine shows the step's progress, too.
    (told,) = [line for line in result.stdout.splitlines() if not line.startswith("simulate impressions: ")]
    assert f"{num_lines:,} impressions in 20 contexts" in told
