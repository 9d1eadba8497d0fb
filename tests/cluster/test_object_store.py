"""Training, scoring and evaluation on an S3 server: what they make is what they make on a disk."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.schemas.layout import EXAMPLES, MARKER
from esmm_spark.doctor.finding import Outcome
from esmm_spark.doctor.paths import check_counts_of_dataset
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_manifest
from tests.cluster.object_store import ObjectStore
from tests.cluster.runs import Run, rows_of
from tests.cluster.standalone import finish
from tests.evaluation.scored_data import write_truth
from tests.repository import ROOT
from tests.scoring.random_model import write_model
from tests.synthetic_examples import (
    config_content,
    random_groups,
    write_dataset,
    write_partition,
    write_small_dataset,
)
from tests.training import runs

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]

RAW_FILES = [
    (split, kind, name)
    for split in ("train", "test")
    for kind, name in (("skeleton", "sample_skeleton"), ("common_features", "common_features"))
]
SETTINGS = {"epochs": 6, "checkpoint_every_steps": 5}


def write_config(folder: Path, content: dict[str, Any], base: str) -> Path:
    """Makes `folder`, with a config whose paths lie below `base`, and returns the config's."""
    folder.mkdir()
    paths = {name: f"{base}/{name}" for name in ("dataset", "model", "scores", "report")}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**content, "paths": paths}, sort_keys=False))
    return path


@pytest.mark.horovod
def test_two_ranks_train_from_and_to_a_store_and_go_on_there_after_a_kill(
    store: ObjectStore, tmp_path: Path
) -> None:
    content = config_content(tmp_path, **SETTINGS)
    here = write_config(tmp_path / "here", content, str(tmp_path / "here"))
    write_small_dataset(tmp_path / "here" / "dataset")
    assert runs.run(2, here).returncode == 0

    base = f"{store.uri}/training"
    there = write_config(tmp_path / "there", content, base)
    store.put(tmp_path / "here" / "dataset", "training/dataset")

    def has_checkpoint() -> bool:
        return any(name.endswith(MARKER) for name, _ in storage.list_files(f"{base}/model/checkpoints"))

    killed, _ = runs.run_and_signal(2, there, has_checkpoint, signal.SIGKILL, rank=1)
    assert killed.returncode != 0
    assert not storage.exists(f"{base}/model/versions")
    done = runs.run(2, there)
    assert done.returncode == 0, done.stderr
    assert f"from {base}/model/checkpoints/step-" in done.stdout
    runs.assert_same_to_the_bit(
        store.get("training/model", tmp_path / "fetched"), tmp_path / "here" / "model"
    )


def job_environment() -> dict[str, str]:
    """Returns the environment of a job in local mode."""
    environment = {**os.environ, "SPARK_CONF_DIR": str(ROOT / "conf" / "spark")}
    environment.pop("PYSPARK_SUBMIT_ARGS", None)
    return environment


def run_job(job: str, config: Path, *overrides: str) -> None:
    """Runs `jobs/<job>.py` in local mode."""
    finish(
        subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / f"{job}.py"), "--config", str(config), *overrides],
            env=job_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    )


def test_a_folder_of_more_files_than_pyarrow_has_threads_is_copied(
    store: ObjectStore, tmp_path: Path
) -> None:
    for number in range(64):
        path = tmp_path / "many" / f"{number % 3}" / f"part-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
    there = store.put(tmp_path / "many", "many")
    assert storage.list_files(there) == storage.list_files(str(tmp_path / "many"))
    back = store.get("many", tmp_path / "back")
    assert storage.list_files(str(back)) == storage.list_files(there)


@pytest.mark.spark
def test_raw_logs_and_their_examples_on_a_store_are_what_they_are_on_a_disk(
    store: ObjectStore, raw: Path, local: Run, tmp_path: Path
) -> None:
    logs, dataset = store.put(raw, "logs"), store.put(local.dataset, "logs-dataset")
    assert {finding.outcome for finding in check_counts_of_dataset(dataset)} == {Outcome.OK}
    for partition in read_manifest(dataset).partitions:
        fetched = store.get(f"logs-dataset/{EXAMPLES}/{partition}", tmp_path / partition)
        assert rows_of(fetched, "group_hash", "group_key").equals(local.examples(partition))
    # Spark reads raw logs by Hadoop's own S3A, which isn't in its distribution.
    splits = (f"logs.splits.{split}.{kind}={logs}/{name}_{split}" for split, kind, name in RAW_FILES)
    command = [str(ROOT / "jobs" / "preprocess.py"), *local.arguments, *splits]
    done = subprocess.run([sys.executable, *command], env=job_environment(), capture_output=True, text=True)
    (line,) = runs.told(done.stderr)
    assert done.returncode == 2
    assert "s3a" in line
    assert "org.apache.hadoop:hadoop-aws" in line


def measured(text: str) -> dict[str, Any]:
    """Returns metrics.json without where it all lay."""
    content: dict[str, Any] = json.loads(text)
    return {name: content[name] for name in ("counts", "metrics", "curves")}


@pytest.mark.spark
def test_scores_and_metrics_on_a_store_are_those_on_a_disk(store: ObjectStore, tmp_path: Path) -> None:
    content = config_content(tmp_path)
    content["score"] = {"partition": "split=test"}
    content["evaluate"] = {"partition": "split=test", "bootstrap_samples": 20}
    base = tmp_path / "here"
    here = write_config(base, content, str(base))
    counts = write_partition(base / "dataset", "split=test", random_groups(120, seed=5), [[40, 20], [60]])
    write_dataset(base / "dataset", {"split=test": counts})
    write_model(Config.model_validate(yaml.safe_load(here.read_text())))
    run_job("score", here)
    expected = rows_of(base / "scores" / "split=test", "impression_id")
    truth = expected.select(["impression_id", "pctr", "pcvr"]).to_pandas()
    write_truth(base / "truth.parquet", truth.assign(conversion_if_clicked=0))
    run_job("evaluate", here, f"evaluate.truth={base}/truth.parquet")

    there = write_config(tmp_path / "there", content, f"{store.uri}/scoring")
    for name in ("dataset", "model", "truth.parquet"):
        store.put(base / name, f"scoring/{name}")
    run_job("score", there)
    found = rows_of(store.get("scoring/scores/split=test", tmp_path / "fetched"), "impression_id")
    assert found.equals(expected)
    run_job("evaluate", there, f"evaluate.truth={store.uri}/scoring/truth.parquet")
    metrics = storage.read_text(f"{store.uri}/scoring/report/metrics.json")
    assert measured(metrics) == measured((base / "report" / "metrics.json").read_text())
