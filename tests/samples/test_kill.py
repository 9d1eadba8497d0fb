"""A preprocess that is killed for real, by SIGKILL, in the middle of its writing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.samples.dataset import preprocess
from tests.repository import ROOT
from tests.samples.raw_lines import config_for, context, impression, token, write_split

pytestmark = [pytest.mark.spark, pytest.mark.slow]


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[bytes], timeout_s: float = 200) -> Path:
    until = time.monotonic() + timeout_s
    while not (found := list(folder.glob(pattern))):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until, f"{pattern} never came"
        time.sleep(0.02)
    return found[0]


def test_sigkill_in_the_middle_leaves_the_old_dataset_and_a_rerun_cleans_up(
    spark: SparkSession, tmp_path: Path
) -> None:
    old = config_for(tmp_path, {"test": write_split(tmp_path / "a", [context("k")], [impression("1", "k")])})
    before = preprocess(spark, old)
    contexts = [context(f"c{c}", token("101", str(c))) for c in range(2000)]
    impressions = [
        impression(f"{c}-{i}", f"c{c}", token("205", str(i))) for c in range(2000) for i in range(20)
    ]
    new = config_for(
        tmp_path, {"test": write_split(tmp_path / "b", contexts, impressions)}, samples={"num_files": 40}
    )
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(new.model_dump(mode="json")))

    command = [sys.executable, str(ROOT / "jobs/preprocess.py"), "--config", str(tmp_path / "new.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
    environment["PYSPARK_SUBMIT_ARGS"] = "--master local[1] --conf spark.ui.enabled=false pyspark-shell"
    with subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        # The folder stands from before the tasks to the end; the job is killed in one of its 40 tasks.
        folder = Path(old.paths.dataset).parent
        staged = wait_for(folder, ".dataset.*.staging/examples/split=test", process).parents[1]
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGKILL)
    assert staged.exists(), "the test wants it killed before it was done"
    assert read_manifest(old.paths.dataset) == before

    manifest = preprocess(spark, new)
    assert manifest.partitions["split=test"].impressions == 40_000
    assert read_manifest(old.paths.dataset) == manifest
    assert [path.name for path in Path(old.paths.dataset).parent.iterdir()] == ["dataset"]
