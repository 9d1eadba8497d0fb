"""The five commands, one after another, as README tells, where all names have a space."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from esmm_spark.contracts.schemas.run_record import RunRecord
from tests.repository import ROOT

pytestmark = [pytest.mark.spark, pytest.mark.horovod, pytest.mark.slow, pytest.mark.timeout(1200)]

UMASK = 0o027
FILES = (("skeleton", "sample_skeleton"), ("common_features", "common_features"))
RECORDS = {
    "simulate": "my raw.run.json",
    "preprocess": "my data/dataset.run.json",
    "train": "my data/model.run.json",
    "score": "my data/scores.runs/split=test.json",
    "evaluate": "my data/report.run.json",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the five commands have run."""
    checkout = tmp_path_factory.mktemp("commands") / "a folder"
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
            command, cwd=checkout, env=environment, umask=UMASK, capture_output=True, text=True, timeout=400
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
    small = {"train.batch_size": "256", "evaluate.bootstrap_samples": "0"}
    keys = [f"{key}={value}" for key, value in {**raw, **paths, **others, **small}.items()]
    shutil.copy(checkout / "conf/demo.yaml", checkout / "conf/my demo.yaml")
    config = ("--config", "conf/my demo.yaml", *keys)

    run(*spark, "jobs/simulate.py", "--output", "my raw", "--num-groups", "60", "--seed", "1")
    run(*spark, "jobs/preprocess.py", *config)
    ranks = ("horovodrun", "-np", "2", "-H", "localhost:2", "--network-interfaces", "lo")
    assert "my data/model/versions/000001-" in run(*ranks, sys.executable, "esmm_spark/train.py", *config)
    assert "my data/scores/split=test" in run(*spark, "jobs/score.py", *config)
    metrics = ("--metrics-file", "evaluate.prom")
    assert "report: my data/report/report.html" in run(*spark, "jobs/evaluate.py", *config, *metrics)
    return checkout


def test_every_command_runs_in_a_folder_with_a_space(checkout: Path) -> None:
    assert (checkout / "my data/report/report.html").exists()


def test_every_command_leaves_a_record_with_its_stages_and_counts(checkout: Path) -> None:
    records = {
        name: RunRecord.model_validate_json((checkout / path).read_text()) for name, path in RECORDS.items()
    }
    for name, record in records.items():
        assert (record.command, record.exit_code, record.error) == (name, 0, None)
        assert record.peak_memory_bytes > 50 << 20
        folder = checkout / record.output / (record.partition or "")
        assert record.bytes_out == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    # Without the JVM it would be less.
    for name in ("simulate", "preprocess", "score", "evaluate"):
        assert records[name].peak_memory_bytes > 250 << 20, name
        assert records[name].stages[0].name == "start Spark"
    stages = {name: [stage.name for stage in record.stages] for name, record in records.items()}
    assert "group the lines of train" in stages["preprocess"]
    assert "score split=test" in stages["score"]
    of_evaluate = ["start Spark", "look at the scores' files", "evaluate", "draw the report"]
    assert stages["evaluate"] == of_evaluate
    assert stages["train"] == ["build the model", "epoch 1/1", "write checkpoints", "publish the model"]
    counts = {name: (record.rows_in, record.rows_out) for name, record in records.items()}
    lines = {
        name: sum(len(part.read_bytes().splitlines()) for part in (checkout / "my raw" / name).iterdir())
        for name in (f"{file}_{split}" for _, file in FILES for split in ("train", "test"))
    }
    train, test = lines["sample_skeleton_train"], lines["sample_skeleton_test"]
    assert counts["simulate"] == (None, train + test)
    assert counts["preprocess"] == (sum(lines.values()), train + test)
    # So few groups that none is held out for validation.
    assert counts["train"] == (train, None)
    assert counts["score"] == (test, test)
    assert counts["evaluate"] == (test, None)
    digests = {record.config_digest for name, record in records.items() if name != "simulate"}
    assert len(digests) == 1


def test_what_the_commands_leave_has_the_users_umask(checkout: Path) -> None:
    left = [checkout / "evaluate.prom"]
    for name in ("my raw", "my data"):
        left += [*checkout.glob(f"{name}*"), *(checkout / name).rglob("*")]
    assert len(left) > 60
    for path in left:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & UMASK == 0, f"{oct(mode)} {path}"
        assert mode == (0o750 if path.is_dir() else 0o640), f"{oct(mode)} {path}"
