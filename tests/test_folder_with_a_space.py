"""The five commands in a checkout whose path has a space, on files whose names have one, as README tells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import ROOT

pytestmark = [pytest.mark.spark, pytest.mark.horovod, pytest.mark.slow, pytest.mark.timeout(600)]


def test_every_command_runs_in_a_folder_with_a_space(tmp_path: Path) -> None:
    checkout = tmp_path / "a folder"
    for name in ("esmm_spark", "jobs", "conf"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(checkout),
        "SPARK_CONF_DIR": str(checkout / "conf/spark"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PYSPARK_SUBMIT_ARGS", None)

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    spark = ("spark-submit", "--master", "local[1]", "--conf", "spark.ui.enabled=false")
    raw = {
        f"logs.splits.{split}.{kind}": f"my raw/{file}_{split}"
        for split in ("train", "test")
        for kind, file in FILES
    }
    paths = {f"paths.{name}": f"my data/{name}" for name in ("dataset", "model", "scores", "report")}
    others = {"evaluate.truth": "my raw/truth.parquet", "evaluate.baseline_scores": "null"}
    small = {"train.batch_size": "256", "train.tensorboard": "false", "evaluate.bootstrap_samples": "0"}
    keys = [f"{key}={value}" for key, value in {**raw, **paths, **others, **small}.items()]
    shutil.copy(checkout / "conf/demo.yaml", checkout / "conf/my demo.yaml")
    config = ("--config", "conf/my demo.yaml", *keys)

    run(*spark, "jobs/simulate.py", "--output", "my raw", "--num-groups", "60", "--seed", "1")
    run(*spark, "jobs/preprocess.py", *config)
    ranks = ("horovodrun", "-np", "2", "-H", "localhost:2", "--network-interfaces", "lo")
    assert "my data/model/versions/000001-" in run(*ranks, sys.executable, "esmm_spark/train.py", *config)
    assert "my data/scores/split=test" in run(*spark, "jobs/score.py", *config)
    assert "report: my data/report/report.html" in run(*spark, "jobs/evaluate.py", *config)
    assert (checkout / "my data/report/report.html").exists()


FILES = (("skeleton", "sample_skeleton"), ("common_features", "common_features"))
