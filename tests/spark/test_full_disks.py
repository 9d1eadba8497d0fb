"""Disks that fill up for real under each job: one line, and what was there stays."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import UnwritableError
from esmm_spark.evaluation.evaluating import evaluate
from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.scoring.scoring import plan_scoring, score
from tests.evaluation.scored_data import simulate, write_scores
from tests.events import small_logs
from tests.files.disks import small_disk
from tests.repository import ROOT
from tests.samples.raw_lines import config_for, context, impression, token, write_split
from tests.scoring.random_model import write_model
from tests.synthetic_examples import config_content, random_groups, write_dataset, write_partition

pytestmark = pytest.mark.spark


def test_a_disk_that_fills_up_under_a_day_of_events_leaves_nothing_of_the_day(
    spark: SparkSession, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    shown = [
        small_logs.impression(f"i{n}", small_logs.at(1, 1 + n / 1000), f"u{n}", f"j{n}") for n in range(2000)
    ]
    small_logs.write_log(logs / "impressions", shown)
    for name in ("clicks", "conversions"):
        small_logs.write_log(logs / name, [small_logs.event(small_logs.at(1, 3), "u1", "j1")])
    config = small_logs.config(tmp_path)
    with small_disk(tmp_path / "dataset", 40) as disk:
        with pytest.raises(
            UnwritableError, match=r"^no room to write paths\.dataset \S+/dataset.*: make room"
        ):
            build_days(spark, config, parse_day(small_logs.DAYS[1], None))
        assert not list(disk.rglob("*.parquet"))
        assert not (disk / "_SUCCESS").exists()


def test_a_disk_that_fills_up_under_scores_leaves_nothing(spark: SparkSession, tmp_path: Path) -> None:
    config = Config.model_validate(config_content(tmp_path))
    dataset = Path(config.paths.dataset)
    counts = write_partition(dataset, "split=test", random_groups(400, seed=5), [[200], [200]])
    write_dataset(dataset, {"split=test": counts})
    write_model(config)
    with small_disk(tmp_path / "scores", 8) as disk:
        with pytest.raises(
            UnwritableError, match=r"^no room to write paths\.scores \S+/split=test.*: make room"
        ):
            score(spark, plan_scoring(config))
        assert list(disk.iterdir()) == []


def test_a_disk_that_fills_up_under_a_report_leaves_nothing(spark: SparkSession, tmp_path: Path) -> None:
    data: pd.DataFrame = simulate()
    write_scores(tmp_path / "scores" / "split=test", data)
    paths = [f"paths.{name}={tmp_path / name}" for name in ("dataset", "model", "scores")]
    config = load_config(
        str(ROOT / "conf/demo.yaml"),
        [
            *paths,
            f"paths.report={tmp_path}/disk/report",
            "evaluate.truth=null",
            "evaluate.baseline_scores=null",
            "evaluate.bootstrap_samples=0",
        ],
    )
    with small_disk(tmp_path / "disk", 40) as disk:
        with pytest.raises(
            UnwritableError, match=r"^no room to write paths\.report \S+/report, .*: make room"
        ):
            evaluate(spark, config)
        assert list(disk.iterdir()) == []


@pytest.mark.slow
def test_a_full_spark_local_dir_is_told_in_one_line_with_its_name(tmp_path: Path) -> None:
    lines = [impression(f"{c}-{i}", f"c{c}", token("205", f"{c}{i}")) for c in range(900) for i in range(90)]
    logs = write_split(tmp_path / "raw", [context(f"c{c}") for c in range(900)], lines)
    config = config_for(tmp_path, {"test": logs})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    with small_disk(tmp_path / "scratch", 600) as disk:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPARK_LOCAL_DIRS": str(disk)}
        environment["PYSPARK_SUBMIT_ARGS"] = (
            "--master local[1] --conf spark.ui.enabled=false --conf spark.shuffle.compress=false "
            "pyspark-shell"
        )
        done = subprocess.run(
            [sys.executable, "jobs/preprocess.py", "--config", str(tmp_path / "config.yaml")],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("group the lines")]
    assert line.startswith(f"error: no room to write paths.dataset {config.paths.dataset}, which has "), line
    assert re.search(
        rf"No space left on device.*; spark\.local\.dir {disk} has [01] MiB free: make room", line
    ), line
    assert not Path(config.paths.dataset).exists()
