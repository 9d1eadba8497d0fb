"""A flat table from file to report: preprocess, train, score, evaluate, by config alone."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from esmm_spark.contracts.config_file import load_config
from esmm_spark.evaluation.evaluating import evaluate
from esmm_spark.samples.dataset import preprocess
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.tables.table_log import read_table
from tests.training.runs import run

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]


def write_log(path: Path, num_users: int, labelled: bool) -> None:
    random = np.random.default_rng(3)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "age", "item_id", *(["is_click", "is_order"] if labelled else [])])
        for user in range(num_users):
            for _ in range(random.integers(1, 6)):
                item = int(random.integers(20))
                click = int(random.random() < 0.2 + 0.03 * item)
                order = click * int(random.random() < 0.5)
                writer.writerow([user, user % 7, item, *([click, order] if labelled else [])])


def test_a_csv_goes_to_a_report_and_unlabelled_lines_to_the_same_scores(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name, labelled in (("log", True), ("today", False)):
        (tmp_path / name).mkdir()
        write_log(tmp_path / name / "part.csv", 300, labelled)
    content: dict[str, Any] = {
        "paths": {name: str(tmp_path / name) for name in ("dataset", "model", "scores", "report")},
        "logs": {
            "format": "table",
            "table": {
                "path": str(tmp_path / "log"),
                "file_format": "csv",
                "context_key": "user_id",
                "labels": {"click": "is_click", "conversion": {"flag": "is_order"}},
                "features": {"user": "user_id", "age": "age", "item": "item_id"},
                "splits": {"test_fraction": 0.3},
            },
        },
        "features": {
            "tables": {name: {"num_buckets": 1000} for name in ("user", "item")},
            "fields": [
                {"name": "user", "level": "context"},
                # Fitted on train, and placed by the model where a table is scored.
                {"name": "age", "level": "context", "kind": "numeric", "quantile": 3, "scaled": True},
                {"name": "item", "level": "impression"},
            ],
        },
        "samples": {"num_files": 2},
        "model": {"hidden_units": [8]},
        "train": {"batch_size": 128, "tensorboard": False},
        "evaluate": {"bootstrap_samples": 5},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    config = load_config(str(path))
    manifest = preprocess(spark, config, read_table)
    assert {*manifest.partitions} == {"split=train", "split=validation", "split=test"}
    written = sum(counts.impressions for counts in manifest.partitions.values())
    assert written == manifest.sources[0].lines_read

    trained = run(1, path)
    assert trained.returncode == 0, trained.stderr
    score(spark, plan_scoring(config))
    of_test = pq.read_table(tmp_path / "scores" / "split=test").to_pandas().set_index("impression_id")
    evaluate(spark, config)
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert "0." in json.dumps(metrics)

    raw = ["score.source=raw", f"score.table={tmp_path / 'today'}", "score.partition=ds=today"]
    score(spark, plan_scoring(load_config(str(path), raw)))
    of_today = pq.read_table(tmp_path / "scores" / "ds=today").to_pandas().set_index("impression_id")
    assert len(of_today) == written
    assert of_today.click.isna().all()
    np.testing.assert_allclose(of_today.pctcvr[of_test.index], of_test.pctcvr, rtol=1e-5)
