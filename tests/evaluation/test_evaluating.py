"""From files to metrics.json and report.html, through Spark."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from sklearn.metrics import log_loss, roc_auc_score

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import IncompleteError, InputError
from esmm_spark.contracts.features import FeatureSpec, TableSpec
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.contracts.schemas.model_info import ModelInfo
from esmm_spark.contracts.schemas.targets import TARGETS
from esmm_spark.contracts.train_config import Model
from esmm_spark.evaluation.evaluating import Evaluation, evaluate
from tests.evaluation.scored_data import baseline_of, truth_of, write_scores, write_truth
from tests.repository import ROOT

pytestmark = pytest.mark.spark
DEMO = ROOT / "conf" / "demo.yaml"


def config_in(folder: Path, *overrides: str) -> Config:
    """Returns a config with all paths in `folder`, without baseline and truth unless overrides name them."""
    paths = [f"paths.{name}={folder / name}" for name in ("dataset", "model", "scores", "report")]
    return load_config(
        str(DEMO),
        [*paths, "evaluate.truth=null", "evaluate.baseline_scores=null", *overrides],
    )


def write_model(folder: Path, history: object, objective: str = "esmm") -> None:
    version = folder / "model" / "versions" / "000001-aaaa"
    version.mkdir(parents=True)
    spec = FeatureSpec(
        tables={"user": TableSpec(num_buckets=8)}, fields=[FieldSpec(name="user", level="context")]
    )
    info = ModelInfo(
        model_version="000001-0000aaaa",
        feature_spec=spec,
        feature_spec_digest=spec.digest,
        model=Model(objective=objective, dim=12),
        num_shards=1,
        step=9,
    )
    (version / "model.json").write_text(info.model_dump_json())
    (version / "history.json").write_text(json.dumps(history))


HISTORY = {
    "steps": [{"step": s, "epoch": 0, "loss": 1 / s, "impressions_per_s": 1000.0} for s in range(1, 9)],
    "epochs": [{"epoch": 0, "step": 8, "ctr_auc": 0.7, "cvr_auc": None, "ctcvr_auc": 0.8, "cvr_log_loss": 1}],
}


@pytest.fixture(scope="module")
def whole(
    spark: SparkSession, data: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Evaluation, Path]:
    """An evaluation of everything: model, baseline, truth and history, with 50 resamples."""
    folder = tmp_path_factory.mktemp("whole")
    write_scores(folder / "scores" / "split=test", data)
    write_scores(folder / "base" / "split=test", baseline_of(data))
    write_truth(folder / "truth.parquet", truth_of(data))
    write_model(folder, HISTORY)
    config = config_in(
        folder,
        f"evaluate.truth={folder / 'truth.parquet'}",
        f"evaluate.baseline_scores={folder / 'base'}",
        "evaluate.bootstrap_samples=50",
    )
    return evaluate(spark, config), folder


@pytest.fixture(scope="module")
def metrics(whole: tuple[Evaluation, Path]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((whole[1] / "report" / "metrics.json").read_text())
    return content


def test_metrics_json_says_what_was_evaluated(metrics: dict[str, Any], data: pd.DataFrame) -> None:
    assert metrics["format_version"] == 1
    assert (metrics["partition"], metrics["model_version"]) == ("split=test", "000001-aaaa")
    assert metrics["names"] == {"model": "ESMM", "baseline": "BASE", "oracle": "oracle"}
    assert metrics["baseline"]["model_version"] == "000007-bbbb"
    assert metrics["bootstrap"] == {"samples": 50, "seed": 42, "level": 0.95}
    assert metrics["counts"] == {
        "impressions": len(data),
        "unlabelled": 0,
        "groups": 60,
        "clicks": int(data.click.sum()),
        "conversions": int(data.conversion.sum()),
    }


def test_every_metric_of_every_series_equals_sklearns(metrics: dict[str, Any], data: pd.DataFrame) -> None:
    assert set(metrics["metrics"]) == {"model", "baseline", "oracle"}
    truth = data.assign(pctr=data.true_pctr, pcvr=data.true_pcvr, pctcvr=data.true_pctr * data.true_pcvr)
    for series, scores in (("model", data), ("baseline", baseline_of(data)), ("oracle", truth)):
        found = metrics["metrics"][series]
        assert set(found) == {target.metric(kind) for target in TARGETS for kind in target.kinds}
        clicked = scores[scores.click == 1]
        for rows, score, label, key in (
            (scores, "pctr", "click", "ctr_{}"),
            (clicked, "pcvr", "conversion", "cvr_{}_clicks"),
            (scores, "pctcvr", "conversion", "ctcvr_{}"),
            (scores, "pcvr", "conversion_if_clicked", "cvr_{}_entire_space"),
        ):
            labels, p = rows[label], rows[score].astype(np.float64).clip(2.0**-24, 1 - 2.0**-24)
            assert found[key.format("auc")]["value"] == pytest.approx(
                roc_auc_score(labels, rows[score]), abs=1e-12
            )
            assert found[key.format("log_loss")]["value"] == pytest.approx(log_loss(labels, p), abs=1e-9)
            calibration = rows[score].astype(np.float64).sum() / labels.sum()
            assert found[key.format("calibration")]["value"] == pytest.approx(calibration, abs=1e-9)
            assert found[key.format("auc")]["impressions"] == len(rows)
            assert found[key.format("auc")]["positives"] == labels.sum()


def test_intervals_hold_their_values_and_differences_are_paired(metrics: dict[str, Any]) -> None:
    for found in [*metrics["metrics"].values(), metrics["differences"]]:
        for estimate in found.values():
            assert estimate["low"] < estimate["value"] < estimate["high"]
    model, baseline = (metrics["metrics"][series]["ctr_auc"] for series in ("model", "baseline"))
    difference = metrics["differences"]["ctr_auc"]
    assert difference["value"] == model["value"] - baseline["value"]
    width = model["high"] - model["low"] + baseline["high"] - baseline["low"]
    assert difference["high"] - difference["low"] < width


def test_curves_hold_every_labelled_impression(metrics: dict[str, Any], data: pd.DataFrame) -> None:
    curves = metrics["curves"]["model"]
    assert set(curves) == {"ctr", "cvr_clicks", "ctcvr", "cvr_entire_space"}
    bins = curves["ctr"]["calibration"]
    assert sum(point["impressions"] for point in bins) == len(data)
    assert sum(point["positives"] for point in bins) == data.click.sum()
    assert [point["mean_score"] for point in bins] == sorted(point["mean_score"] for point in bins)
    assert sum(curves["ctr"]["histogram"]["positives"]) == pytest.approx(1)
    roc = curves["ctr"]["roc"]
    auc = np.trapz(roc["true_positive_rate"], roc["false_positive_rate"])
    assert auc == pytest.approx(metrics["metrics"]["model"]["ctr_auc"]["value"], abs=1e-3)


def test_the_report_shows_all_of_it(whole: tuple[Evaluation, Path]) -> None:
    done, folder = whole
    assert done.report == str(folder / "report" / "report.html")
    html = Path(done.report).read_text()
    assert re.sub(r'xmlns(:\w+)?="[^"]*"', "", html).count("://") == 0
    assert html.count("<figure>") == 4 * 5 + 3
    assert (folder / "report" / "_SUCCESS").exists()
    assert not list(folder.glob(".report*"))


def test_a_rerun_with_the_same_seed_writes_the_same_and_replaces(
    spark: SparkSession, data: pd.DataFrame, tmp_path: Path
) -> None:
    some = data[data.group_key.isin([f"g{i}" for i in range(20)])]
    write_scores(tmp_path / "scores" / "split=test", some)
    config = config_in(tmp_path, "evaluate.bootstrap_samples=10")
    done = evaluate(spark, config)
    names = ("metrics.json", "report.html")
    first = [(tmp_path / "report" / name).read_text() for name in names]
    assert "there is no" in done.subject.history_note
    assert "No training curves" in first[1]
    assert json.loads(first[0])["baseline"] is None
    evaluate(spark, config)
    assert [(tmp_path / "report" / name).read_text() for name in names] == first


def test_without_clicks_the_reasons_are_told(spark: SparkSession, data: pd.DataFrame, tmp_path: Path) -> None:
    write_scores(tmp_path / "scores" / "split=test", data[:30].assign(click=0, conversion=0))
    write_model(tmp_path, ["no history"], "base")
    done = evaluate(spark, config_in(tmp_path, "evaluate.bootstrap_samples=0"))
    assert done.subject.names["model"] == "BASE"
    assert "is not a history.json of this version" in done.subject.history_note
    reasons = {key: estimate.reason for (_, key), estimate in done.measured.estimates.items()}
    assert reasons["ctr_auc"] == "one class only: no positive label"
    assert reasons["cvr_auc_clicks"] == reasons["cvr_log_loss_clicks"] == "no labelled impression"
    assert reasons["ctr_calibration"] == "no positive label"
    assert reasons["ctr_log_loss"] is None
    assert "n/a (no labelled impression)" in (tmp_path / "report" / "report.html").read_text()


def test_a_bad_input_leaves_the_report_as_it_was(
    spark: SparkSession, data: pd.DataFrame, tmp_path: Path
) -> None:
    scores = write_scores(tmp_path / "scores" / "split=test", data[:30])
    base = write_scores(tmp_path / "base" / "split=test", baseline_of(data)[5:35])
    write_truth(tmp_path / "truth.parquet", truth_of(data)[10:])
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").write_text("before")
    (report / MARKER).touch()
    with pytest.raises(InputError, match="5 of 30 scored impressions are not in the baseline's scores"):
        evaluate(spark, config_in(tmp_path, f"evaluate.baseline_scores={base}"))
    with pytest.raises(InputError, match="10 of 30 scored impressions are not in the truth"):
        evaluate(spark, config_in(tmp_path, f"evaluate.truth={tmp_path / 'truth.parquet'}"))
    (base / "_SUCCESS").unlink()
    with pytest.raises(IncompleteError, match="base/split=test is half-written"):
        evaluate(spark, config_in(tmp_path, f"evaluate.baseline_scores={base}"))
    (scores / "part-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"part-0\.parquet is no Parquet file"):
        evaluate(spark, config_in(tmp_path))
    assert (report / "report.html").read_text() == "before"


def test_a_folder_that_holds_something_else_is_never_replaced(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "report" / "thesis").mkdir(parents=True)
    with pytest.raises(
        InputError, match=r"paths\.report .*report holds thesis, which would be deleted: .* one of its own"
    ):
        evaluate(spark, config_in(tmp_path))
    assert (tmp_path / "report" / "thesis").exists()
