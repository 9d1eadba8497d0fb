"""Every metric and every replicate against sklearn and plain loops, however the work is shared out."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from esmm_spark.contracts.schemas.targets import KINDS, TARGETS, Target, targets_of
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.evaluation.kernels import scratch
from esmm_spark.evaluation.kernels.id_hashes import text_hashes
from esmm_spark.evaluation.kernels.weights import poisson_weights
from esmm_spark.evaluation.measure import plan, sampling, summing
from esmm_spark.evaluation.measure.inputs import Source
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.metrics import LOG_LOSS_EPSILON, METRICS
from tests.evaluation.local_job import measure_locally, write_sources
from tests.evaluation.scored_data import baseline_of, truth_of

SAMPLES, SEED = 12, 7
Floats = NDArray[Any]


@pytest.fixture(scope="module")
def sources(data: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    others = truth_of(data).assign(impression_id=[f"other {i}" for i in range(len(data))])
    truth = pd.concat([others, truth_of(data)])
    return write_sources(tmp_path_factory.mktemp("sources"), data, baseline_of(data), truth)


@pytest.fixture(scope="module")
def found(sources: dict[str, Source]) -> Measurements:
    return measure_locally(sources, SAMPLES, SEED)


def weights_of(data: pd.DataFrame, samples: int) -> Floats:
    """Returns `[N, 1 + B]`: the impressions' weights, a column of ones first."""
    groups = text_hashes(pa.array(data.group_key), 42).view(np.int64)
    weights: Floats = poisson_weights(groups, samples, SEED)[:, : 1 + samples].astype(np.float64)
    return weights


def score_of(data: pd.DataFrame, series: str, target: Target) -> Floats:
    """Returns the series' scores for a target, float64."""
    own = {
        "model": {},
        "baseline": {name: f"b_{name}" for name in ("pctr", "pcvr", "pctcvr")},
        "oracle": {name: f"true_{name}" for name in ("pctr", "pcvr", "pctcvr")},
    }[series]
    table = data.assign(true_pctcvr=data.true_pctr * data.true_pcvr)
    scores: Floats = table[own.get(target.score, target.score)].to_numpy(np.float64)
    return scores


def label_of(data: pd.DataFrame, target: Target) -> Floats:
    """Returns the target's labels, NaN where an impression doesn't count."""
    label = data[target.label]
    counted = label if target.where is None else label.where(data[target.where] == 1)
    labels: Floats = counted.to_numpy(np.float64)
    return labels


@cache
def plain_auc(labels: tuple[float, ...], scores: tuple[float, ...]) -> float:
    """Returns scikit-learn's AUC, which takes a millisecond, once for all resamples."""
    return float(roc_auc_score(labels, scores))


def grouped_auc(groups: Floats, labels: Floats, scores: Floats, weights: Floats) -> float:
    """Returns the mean of the groups' AUCs, weighted by their impressions."""
    above = below = 0.0
    for group in np.unique(groups):
        own = groups == group
        if 0 < labels[own].sum() < own.sum():
            weight = own.sum() * weights[own][0]
            above += weight * plain_auc(tuple(labels[own]), tuple(scores[own]))
            below += weight
    return above / below


PLAIN: Mapping[str, Callable[[Floats, Floats, Floats, Floats], float]] = {
    "auc": lambda _, labels, scores, weights: roc_auc_score(labels, scores, sample_weight=weights),
    "log_loss": lambda _, labels, scores, weights: sklearn_log_loss(
        labels, np.clip(scores, LOG_LOSS_EPSILON, 1 - LOG_LOSS_EPSILON), sample_weight=weights
    ),
    "calibration": lambda _, labels, scores, weights: float((scores @ weights) / (labels @ weights)),
    "gauc": grouped_auc,
}


@pytest.mark.parametrize("series", ["model", "baseline", "oracle"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.slow
def test_every_metric_and_every_replicate_equals_a_plain_one(
    found: Measurements, data: pd.DataFrame, series: str, target: Target
) -> None:
    weights, labels, scores = (
        weights_of(data, SAMPLES),
        label_of(data, target),
        score_of(data, series, target),
    )
    groups = data.group_key.to_numpy()
    known = ~np.isnan(labels)
    for kind in target.kinds:
        estimate = found.estimate(series, target, kind)
        expected = [
            PLAIN[kind](groups[known], labels[known], scores[known], weights[known, sample])
            for sample in range(1 + SAMPLES)
        ]
        assert [estimate.value, *estimate.replicates] == pytest.approx(expected, abs=1e-12)
    assert found.estimate(series, target, "auc").counts == {
        "impressions": known.sum(),
        "positives": labels[known].sum(),
    }


def test_the_difference_to_a_baseline_is_paired(found: Measurements) -> None:
    for target in TARGETS:
        for kind in target.kinds:
            first, second = (found.estimate(name, target, kind) for name in ("model", "baseline"))
            difference = found.differences[target.metric(kind)]
            np.testing.assert_array_equal(difference.replicates, first.replicates - second.replicates)


def assert_same(first: Measurements, second: Measurements, tolerance: float = 0.0) -> None:
    for key, estimate in first.estimates.items():
        other = second.estimates[key]
        exact = 0.0 if "auc" in key[1] and "gauc" not in key[1] else tolerance
        np.testing.assert_allclose(other.value or 0, estimate.value or 0, rtol=exact)
        np.testing.assert_allclose(other.replicates, estimate.replicates, rtol=exact)
        assert estimate.counts == other.counts
    assert first.labels == second.labels
    assert first.num_groups == second.num_groups


def test_parts_chunks_and_files_change_nothing(
    sources: dict[str, Source], found: Measurements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_LEAST_PER_PART", 100)
    monkeypatch.setattr(summing, "_CHUNK_IMPRESSIONS", 37)
    monkeypatch.setattr(summing, "_CELLS_AT_ONCE", 64)
    parted = measure_locally(sources, SAMPLES, SEED)
    assert_same(parted, found, 1e-13)
    monkeypatch.setattr(scratch, "MEMORY_BYTES", 500)
    assert_same(measure_locally(sources, SAMPLES, SEED), parted)


def test_splitters_change_no_auc_even_where_they_share_out_badly(
    sources: dict[str, Source], found: Measurements
) -> None:
    for splitters in (np.array([0.5]), np.array([0.0, 0.2, 0.21, 0.25, 1.0])):
        assert_same(measure_locally(sources, SAMPLES, SEED, splitters=(splitters,) * 9), found)


@pytest.mark.slow
def test_a_million_impressions_with_many_ties_equal_plain_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    size = 1_000_000
    pctr, pcvr = np.round(rng.beta(1, 20, size), 3), np.round(rng.beta(1, 8, size), 2)
    click = rng.random(size) < pctr
    data = pd.DataFrame(
        {
            "impression_id": np.char.add("i", np.arange(size).astype(str)),
            "group_key": np.char.add("g", (np.arange(size) // 50).astype(str)),
            "pctr": pctr.astype(np.float32),
            "pcvr": pcvr.astype(np.float32),
            "pctcvr": (pctr * pcvr).astype(np.float32),
            "model_version": "v",
            "click": click.astype(np.int8),
            "conversion": (click & (rng.random(size) < pcvr)).astype(np.int8),
        }
    )
    sources = write_sources(tmp_path, data.sample(frac=1, random_state=1))
    found = measure_locally(sources, 3, SEED)
    weights = weights_of(data, 3)
    for target in found.targets:
        labels, scores = label_of(data, target), data[target.score].to_numpy(np.float64)
        known = ~np.isnan(labels)
        estimates = [found.estimate("model", target, kind) for kind in ("auc", "log_loss", "calibration")]
        for estimate, kind in zip(estimates, ("auc", "log_loss", "calibration"), strict=True):
            for sample, value in enumerate([estimate.value, *estimate.replicates]):
                args = labels[known], scores[known], weights[known, sample]
                assert value == pytest.approx(PLAIN[kind](args[0], *args), rel=1e-11)


def test_sure_mistakes_cost_a_finite_loss(data: pd.DataFrame, tmp_path: Path) -> None:
    two = data[:2].assign(pctr=[0.0, 1.0], click=[1, 0], conversion=[0, 0])
    found = measure_locally(write_sources(tmp_path, two))
    assert found.estimates["model", "ctr_log_loss"].value == pytest.approx(24 * np.log(2), rel=1e-7)


def test_what_is_undefined_has_no_value_but_a_reason(data: pd.DataFrame, tmp_path: Path) -> None:
    found = measure_locally(write_sources(tmp_path, data[:20].assign(click=0, conversion=0)), 3)
    reasons = {key: estimate.reason for (_, key), estimate in found.estimates.items()}
    expected = {
        "ctr_auc": "one class only: no positive label",
        "ctr_log_loss": None,
        "ctr_calibration": "no positive label",
        "ctr_gauc": "no group has both labels 0 and 1",
        "cvr_auc_clicks": "no labelled impression",
        "cvr_log_loss_clicks": "no labelled impression",
        "cvr_calibration_clicks": "no positive label",
        "ctcvr_auc": "one class only: no positive label",
        "ctcvr_log_loss": None,
        "ctcvr_calibration": "no positive label",
        "ctcvr_gauc": "no group has both labels 0 and 1",
    }
    assert {key: reasons[key] for key in expected} == expected
    assert found.estimates["model", "ctr_gauc"].counts == {"groups": 0, "impressions": 0}
    assert [len(estimate.replicates) for estimate in found.estimates.values()] == [3] * len(reasons)


def test_without_any_label_there_are_scores_and_no_metric(data: pd.DataFrame, tmp_path: Path) -> None:
    unlabelled = data.assign(click=None, conversion=None)
    found = measure_locally(write_sources(tmp_path, unlabelled), 3)
    assert found.num_unlabelled == found.num_impressions == len(data)
    assert found.num_groups == 60
    assert {estimate.value for estimate in found.estimates.values()} == {None}
    assert found.curves == {}


def test_a_longer_funnel_has_metrics_of_every_task(data: pd.DataFrame, tmp_path: Path) -> None:
    tasks = Tasks.model_validate(
        {"click": {}, "conversion": {"given": "click"}, "re_buy": {"given": "conversion"}, "like": {}}
    )
    rng = np.random.default_rng(3)
    re_buy = (data.conversion * (rng.random(len(data)) < 0.4)).astype(object)
    unknown = (data.conversion == 1) & (rng.random(len(data)) < 0.2)
    wide = data.assign(
        p_re_buy=np.round(rng.random(len(data)), 2).astype(np.float32),
        p_like=np.round(rng.random(len(data)), 2).astype(np.float32),
        re_buy=re_buy.where(~unknown, None).where(data.conversion == 1, None),
        like=(rng.random(len(data)) < 0.3).astype(np.int8),
    )
    wide["p_entire_re_buy"] = wide.pctcvr * wide.p_re_buy
    found = measure_locally(write_sources(tmp_path, wide, tasks=tasks), tasks=tasks)
    names = [target.name for target in targets_of(tasks) if not target.needs_truth]
    assert [target.name for target in found.targets] == names
    assert names == ["ctr", "cvr_clicks", "ctcvr", "re_buy_on_conversion", "entire_re_buy", "like"]
    known = wide[(wide.conversion == 1) & ~unknown]
    on_parent = found.estimates["model", "re_buy_auc_on_conversion"]
    assert on_parent.counts == {"impressions": len(known), "positives": known.re_buy.sum()}
    assert on_parent.value == pytest.approx(roc_auc_score(known.re_buy.astype(int), known.p_re_buy))
    # What did not convert was not bought again, though its label says nothing.
    entire = wide[~unknown]
    assert found.labels["entire_re_buy"].impressions == len(entire)
    assert found.estimates["model", "entire_re_buy_auc"].value == pytest.approx(
        roc_auc_score((entire.re_buy == 1).astype(int), entire.p_entire_re_buy)
    )
    assert found.estimates["model", "like_auc"].value == pytest.approx(roc_auc_score(wide.like, wide.p_like))


def test_samples_come_from_first_to_last_row_group(sources: dict[str, Source]) -> None:
    spans = [plan.Span("a", number, 10) for number in range(100)]
    chosen = [span.row_group for span in sampling._spread(spans)]
    assert (len(chosen), chosen[0], chosen[-1]) == (16, 0, 99)
    assert max(np.diff(chosen)) <= 7


def test_config_and_evaluation_know_the_same_kinds_of_metrics() -> None:
    assert tuple(METRICS) == KINDS
