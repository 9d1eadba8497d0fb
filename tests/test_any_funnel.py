"""Funnels of any shape, with carried columns, from event logs to the report: values against the logs' own."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from sklearn.metrics import log_loss, roc_auc_score

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.schemas.targets import targets_of
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.evaluation.evaluating import evaluate
from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.training.run import train
from tests.events.small_logs import DAYS, at
from tests.training.runs import curve, metrics

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]

FUNNELS: dict[str, dict[str, Any]] = {
    "one task": {"open": {}},
    "two children": {"click": {}, "conversion": {"given": "click"}, "like": {"given": "click"}},
    "a chain of four": {
        "view": {},
        "cart": {"given": "view"},
        "order": {"given": "cart"},
        "re_order": {"given": "order"},
    },
}
CARRY = {"weight": "float", "seen": "float", "place": "int", "segment": "string"}
NUM_ITEMS, COUNT, DAY = 12, 400, DAYS[0]


def write_logs(folder: Path, tasks: Mapping[str, Mapping[str, str]], seed: int) -> pd.DataFrame:
    """Writes a log of impressions and one for each task; returns what a row per impression should hold.

    Items differ in how likely anything is. `weight` and `seen` follow from the labels of the first two tasks:
    so a term that reads them is one with factors by label.
    """
    random, names = np.random.default_rng(seed), list(tasks)
    number, item = np.arange(COUNT), random.integers(0, NUM_ITEMS, COUNT)
    labels: dict[str, npt.NDArray[np.bool_]] = {}
    for place, name in enumerate(names):
        happens = random.random(COUNT) < 0.2 + 0.75 * ((item + 5 * place) % NUM_ITEMS) / NUM_ITEMS
        labels[name] = happens & labels[tasks[name]["given"]] if tasks[name] else happens
    first, second = labels[names[0]], labels[names[min(1, len(names) - 1)]]
    table = pd.DataFrame(
        {
            "impression_id": [f"i{n:04d}" for n in number],
            "time": [at(0, 1 + n / 100) for n in number],
            "user_id": [f"u{n // 6}" for n in number],
            "item_id": [f"item-{n}" for n in item],
            "weight": np.where(first, 1.0, 3.0),
            "seen": np.where(second, 0.5, 0.25),
            "place": pd.array([None if n % 7 == 3 else 2**60 + n for n in number.tolist()], dtype="Int64"),
            "segment": [("new", None, "known, 100%\n")[n % 3] for n in number],
        }
    )
    _write_day(folder / "impressions", table)
    for name, label in labels.items():
        parent = tasks[name].get("given", "impression")
        events = pd.DataFrame(
            {
                f"{name}_id": [f"{name}-{n}" for n in number],
                f"{parent}_id": [f"i{n:04d}" if parent == "impression" else f"{parent}-{n}" for n in number],
                "time": table["time"] + 1_000_000 * (1 + list(tasks).index(name)),
            }
        )
        _write_day(folder / name, events[label])
    return table.assign(**{name: label.astype(np.int8) for name, label in labels.items()})


def _write_day(folder: Path, rows: pd.DataFrame) -> None:
    (folder / f"ds={DAY}").mkdir(parents=True)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(table, folder / f"ds={DAY}" / "part-0.parquet")


def content_of(folder: Path, tasks: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Returns a config of the logs in `folder`/logs, with all columns carried."""

    def log(name: str, **columns: Any) -> dict[str, Any]:
        files = {"path": str(folder / "logs" / name), "day_folders": "ds"}
        return {**files, "time": "time", "time_unit": "us", **columns}

    ids = {"impression_id": "impression_id", "user_id": "user_id", "item_id": "item_id"}
    features = {"user": "user_id", "item": "item_id", **{name: name for name in CARRY}}
    own = {
        name: log(
            name, event_id=f"{name}_id", parent_id=f"{task.get('given', 'impression')}_id", window_s=3600
        )
        for name, task in tasks.items()
    }
    events = {"impressions": log("impressions", **ids, features=features), "tasks": own, "immature": "keep"}
    return {
        "paths": {name: str(folder / name) for name in ("dataset", "model", "scores", "report")},
        "logs": {"format": "events", "events": events},
        "features": {
            "tables": {"user": {"num_buckets": 200}, "item": {"num_buckets": 50}},
            "fields": [{"name": "user", "level": "context"}, {"name": "item", "level": "impression"}],
        },
        "tasks": tasks,
        "samples": {"num_files": 2, "row_group_mb": 0.01, "carry": CARRY},
        "data": {"train": f"ds={DAY}", "validation": f"ds={DAY}"},
        "model": {"dim": 4, "hidden_units": [8]},
        "train": {
            "batch_size": 64,
            "epochs": 3,
            "learning_rate": 0.02,
            "embedding_learning_rate": 0.2,
            "threads": 1,
            "tensorboard": False,
        },
        "score": {"partition": f"ds={DAY}"},
        "evaluate": {"partition": f"ds={DAY}", "bootstrap_samples": 3},
    }


def scored_with(expected: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Returns the scores beside what the logs say of their impressions, whose columns end with `_logged`."""
    scores = pq.read_table(folder / "scores" / f"ds={DAY}").to_pandas(integer_object_nulls=True)
    both = scores.merge(expected, on="impression_id", suffixes=("", "_logged"), validate="1:1")
    assert len(both) == len(scores) == COUNT
    return both


def terms_of(tasks: Mapping[str, Mapping[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """Returns the same loss twice: with carried columns, and with factors by label."""
    first, *others = tasks
    by_column: list[dict[str, Any]] = [{"task": first, "sample_weight": "weight"}]
    by_label: list[dict[str, Any]] = [{"task": first, "negatives": 3.0}]
    if others:
        given = {"task": others[0], "space": "given"}
        by_column.append({**given, "propensity": {"column": "seen", "clip": 0.1}})
        by_label.append({**given, "positives": 2.0, "negatives": 4.0})
    more = [{"task": name} for name in others[1:]]
    return {"by-label": by_label + more, "by-column": by_column + more}


@pytest.mark.parametrize("name", FUNNELS)
def test_a_funnel_of_any_shape_and_carried_columns_go_from_logs_to_the_report(
    name: str, spark: SparkSession, tmp_path: Path
) -> None:
    tasks = FUNNELS[name]
    expected = write_logs(tmp_path / "logs", tasks, seed=len(tasks))
    content = content_of(tmp_path, tasks)
    build_days(spark, Config.model_validate(content), parse_day(DAY, None))
    counts = read_manifest(content["paths"]["dataset"]).partitions[f"ds={DAY}"]
    assert counts.positives == expected[list(tasks)].sum().to_dict()

    for folder, terms in terms_of(tasks).items():
        content["paths"]["model"], content["losses"] = str(tmp_path / folder), terms
        config = Config.model_validate(content)
        train(config)
    assert metrics(tmp_path / "by-column")[config.best_metric] > 0.6
    np.testing.assert_allclose(curve(tmp_path / "by-column"), curve(tmp_path / "by-label"), rtol=1e-6)

    score(spark, plan_scoring(config))
    both = scored_with(expected, tmp_path)
    assert_probabilities_are_products(both, config.tasks)
    for column in (*tasks, *CARRY):
        found, logged = (none_for_missing(both[name]) for name in (column, f"{column}_logged"))
        assert found == logged, column
        assert (None in found) == (column in ("place", "segment"))

    evaluate(spark, config)
    assert_metrics_are_those_of(both, config.tasks, tmp_path / "report")


def none_for_missing(values: Iterable[Any]) -> list[Any]:
    return [None if pd.isna(value) else value for value in values]


def assert_probabilities_are_products(scores: pd.DataFrame, tasks: Tasks) -> None:
    for name in tasks.names:
        columns, parent = tasks.score_columns(name), tasks.parent(name)
        before = 1.0 if parent is None else scores[tasks.score_columns(parent).entire]
        np.testing.assert_allclose(scores[columns.entire], before * scores[columns.conditional], rtol=1e-5)


def assert_metrics_are_those_of(scores: pd.DataFrame, tasks: Tasks, report: Path) -> None:
    """Compares with scikit-learn: conditional metrics are over impressions whose parent's label is 1."""
    found = json.loads((report / "metrics.json").read_text())["metrics"]["model"]
    html = (report / "report.html").read_text()
    targets = [target for target in targets_of(tasks) if not target.needs_truth]
    # A root has its own probability, any other task a conditional one and one of the entire space.
    assert len(targets) == sum(1 if tasks.parent(name) is None else 2 for name in tasks.names)
    for target in targets:
        judged = scores if target.where is None else scores[scores[target.where] == 1]
        label, probability = judged[target.label], judged[target.score]
        auc = found[target.metric("auc")]
        assert auc["value"] == pytest.approx(roc_auc_score(label, probability))
        assert (auc["impressions"], auc["positives"]) == (len(judged), label.sum())
        loss = found[target.metric("log_loss")]["value"]
        assert loss == pytest.approx(log_loss(label, probability.astype(float)), rel=1e-5)
        ratio = found[target.metric("calibration")]["value"]
        assert ratio == pytest.approx(probability.sum() / label.sum(), rel=1e-5)
        assert f"<tr><th>{target.title}</th>" in html
