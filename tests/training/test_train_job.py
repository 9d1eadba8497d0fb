"""`jobs/train.py` as a user runs it: ranks in the tasks of a local Spark."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.repository import ROOT
from tests.training.runs import assert_same_model, told
from tests.training.test_ranks import TOLERANCE

pytestmark = [pytest.mark.spark, pytest.mark.horovod, pytest.mark.slow]


def train_job(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = "--master local[2] --conf spark.ui.enabled=false --conf spark.driver.host=127.0.0.1"
    environment = {
        **os.environ,
        "SPARK_CONF_DIR": str(ROOT / "conf" / "spark"),
        "PYSPARK_SUBMIT_ARGS": f"{options} --conf spark.driver.bindAddress=127.0.0.1 pyspark-shell",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "train.py"), "--config", str(config), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_two_tasks_of_spark_train_the_model_of_one_process(
    new_run: Callable[..., Path], uninterrupted: Path
) -> None:
    config = new_run()
    metrics = config.parent / "train.prom"
    done = train_job(config, "--metrics-file", str(metrics), "train.backend=torch")
    assert done.returncode == 0, done.stderr
    model = config.parent / "model"
    assert_same_model(model, uninterrupted, TOLERANCE)
    record = json.loads((config.parent / "model.run.json").read_text())
    assert (record["command"], record["arguments"][0], record["exit_code"]) == ("train", "--config", 0)
    told_metrics = metrics.read_text()
    labels = f'{{command="train",output="{model}"}}'
    assert f"esmm_spark_run_rows_in{labels} {record['rows_in']}\n" in told_metrics
    assert f"esmm_spark_run_output_bytes{labels} {record['bytes_out']}\n" in told_metrics
    assert f"esmm_spark_run_exit_code{labels} 0\n" in told_metrics


def test_a_users_mistake_on_the_executors_ends_the_job_with_one_line_and_exit_code_2(
    new_run: Callable[..., Path],
) -> None:
    config = new_run()
    done = train_job(config, "train.backend=torch", "model.network=no.such:Class")
    assert done.returncode == 2, done.stderr
    assert "no.such" in told(done.stderr)[-1]


def test_horovod_and_too_many_ranks_are_refused_in_one_line(new_run: Callable[..., Path]) -> None:
    config = new_run()
    done = train_job(config)
    assert done.returncode == 2
    (line,) = told(done.stderr)
    assert line.startswith("error: train.backend = horovod, but on Spark's executors")
    done = train_job(config, "train.backend=torch", "--ranks", "3")
    assert done.returncode == 2
    assert told(done.stderr)[-1].startswith("error: --ranks 3 > 2 tasks at a time")
