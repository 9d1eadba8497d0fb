"""A funnel of three tasks from simulated event logs to the report, with training on two ranks."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession
from sklearn.metrics import roc_auc_score

from esmm_spark.contracts.config_file import load_config
from esmm_spark.evaluation.evaluating import evaluate
from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.simulation.simulate_events import Days, simulate_events
from tests.repository import ROOT
from tests.training.runs import run

pytestmark = [pytest.mark.spark, pytest.mark.horovod, pytest.mark.slow]

TASKS = ("click", "conversion", "repurchase")


def test_three_tasks_go_from_logs_to_the_report(spark: SparkSession, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    simulate_events(spark, str(raw), 300, 1, "demo", Days(date(2026, 11, 20), 2), with_repurchases=True)
    logs = {name: {"path": str(raw / name)} for name in ("impressions", "clicks", "conversions")}
    own = {
        "extends": str(ROOT / "conf/funnel.yaml"),
        "paths": {name: str(tmp_path / name) for name in ("dataset", "model", "scores", "report")},
        "logs": {"events": {**logs, "tasks": {"repurchase": {"path": str(raw / "repurchases")}}}},
        "samples": {"num_files": 2},
        "data": {"train": "ds=2026-11-20", "validation": "ds=2026-11-21"},
        "model": {"hidden_units": [8]},
        "train": {"batch_size": 512, "tensorboard": False},
        "score": {"partition": "ds=2026-11-21"},
        "evaluate": {
            "partition": "ds=2026-11-21",
            "truth": str(raw / "truth.parquet"),
            "bootstrap_samples": 5,
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(own))
    config = load_config(str(path), ["logs.events.catalogs.0.path=" + str(raw / "items")])
    for day in ("2026-11-20", "2026-11-21"):
        # So few buy again that there are days without any.
        build_days(spark, config, parse_day(day, None), allowed_missing=["repurchase"])
    counts = read_manifest(config.paths.dataset).partitions["ds=2026-11-21"]
    assert list(counts.positives) == list(TASKS)
    assert counts.positives["click"] > counts.positives["conversion"] > counts.positives["repurchase"] > 0

    trained = run(2, path, "logs.events.catalogs.0.path=" + str(raw / "items"))
    assert trained.returncode == 0, trained.stderr
    assert "repurchase AUC" in trained.stdout
    score(spark, plan_scoring(config))
    scores = pq.read_table(tmp_path / "scores" / "ds=2026-11-21").to_pandas()
    assert {"pctr", "pcvr", "pctcvr", "p_repurchase", "p_entire_repurchase", *TASKS} <= {*scores.columns}
    assert np.allclose(scores.pctcvr, scores.pctr * scores.pcvr, rtol=1e-5)
    assert np.allclose(scores.p_entire_repurchase, scores.pctcvr * scores.p_repurchase, rtol=1e-5)
    labels = pq.read_table(tmp_path / "dataset/labels/ds=2026-11-21").to_pandas()
    both = scores.merge(labels, on="impression_id", suffixes=("", "_logged"), validate="1:1")
    assert len(both) == len(scores) == len(labels) == counts.impressions
    assert all((both[task] == both[f"{task}_logged"]).all() for task in TASKS)

    evaluate(spark, config)
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    text = json.dumps(metrics)
    expected = roc_auc_score(scores.repurchase, scores.p_entire_repurchase)
    assert any(abs(found - expected) < 1e-9 for found in _numbers(metrics)), (expected, text)
    assert "repurchase" in (tmp_path / "report" / "report.html").read_text()


def _numbers(content: object) -> list[float]:
    if isinstance(content, dict):
        return [number for value in content.values() for number in _numbers(value)]
    if isinstance(content, list):
        return [number for value in content for number in _numbers(value)]
    return [content] if isinstance(content, float) else []
