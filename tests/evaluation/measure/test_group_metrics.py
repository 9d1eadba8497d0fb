"""Log loss, calibration and GAUC against sklearn and plain loops over groups."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from esmm_spark.evaluation.measure import group_metrics
from esmm_spark.evaluation.measure.alignment import AlignedScores, align
from esmm_spark.evaluation.measure.estimates import Estimate
from esmm_spark.evaluation.measure.group_metrics import LOG_LOSS_EPSILON, Sums
from esmm_spark.evaluation.measure.targets import CTCVR, CTR, CVR_CLICKS, Ranking
from esmm_spark.evaluation.measure.weights import poisson_weights
from tests.evaluation.scored_data import ToFrame

pytestmark = pytest.mark.spark
SAMPLES, SEED = 9, 7
RANKINGS = [Ranking("model", CTR), Ranking("model", CVR_CLICKS), Ranking("model", CTCVR)]


@pytest.fixture(scope="module")
def aligned(data: pd.DataFrame, scores_frame: ToFrame) -> Iterator[AlignedScores]:
    result = align(scores_frame(data), len(data))
    yield result
    result.impressions.unpersist()


@pytest.fixture(scope="module")
def sums(aligned: AlignedScores) -> Sums:
    groups = group_metrics.group_sums(aligned.impressions, RANKINGS)
    return group_metrics.weighted_sums(groups, SAMPLES, SEED)


@pytest.fixture(scope="module")
def samples(aligned: AlignedScores) -> list[tuple[pd.DataFrame, npt.NDArray[Any]]]:
    """The impressions with their weights: once 1, then those of each bootstrap sample."""
    table: pd.DataFrame = aligned.impressions.toPandas()
    weights = poisson_weights(table.group_hash.to_numpy(), SAMPLES, SEED)
    return [(table, np.ones(len(table))), *((table, weights[:, sample]) for sample in range(SAMPLES))]


def labelled(
    table: pd.DataFrame, ranking: Ranking
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns which impressions count, their labels and scores."""
    counts = (table.click == 1).to_numpy() if ranking.target == CVR_CLICKS else np.ones(len(table), bool)
    label = table.click if ranking.target == CTR else table.conversion
    return counts, label[counts].to_numpy(), table[ranking.score][counts].to_numpy()


Samples = list[tuple[pd.DataFrame, npt.NDArray[Any]]]


def assert_each(
    estimate: Estimate, samples: Samples, expected: Callable[[pd.DataFrame, npt.NDArray[Any]], float]
) -> None:
    found = [estimate.value, *estimate.replicates]
    assert found == pytest.approx([expected(table, weights) for table, weights in samples], abs=1e-12)


@pytest.mark.parametrize("ranking", RANKINGS, ids=lambda ranking: ranking.name)
def test_log_loss_equals_sklearn_on_every_sample(
    aligned: AlignedScores, sums: Sums, samples: Samples, ranking: Ranking
) -> None:
    def expected(table: pd.DataFrame, weights: npt.NDArray[Any]) -> float:
        counts, labels, scores = labelled(table, ranking)
        clipped = np.clip(scores, LOG_LOSS_EPSILON, 1 - LOG_LOSS_EPSILON)
        return float(sklearn_log_loss(labels, clipped, sample_weight=weights[counts]))

    estimate = group_metrics.log_loss(sums, ranking, aligned.labels[ranking.target.name])
    assert_each(estimate, samples, expected)


@pytest.mark.parametrize("ranking", RANKINGS, ids=lambda ranking: ranking.name)
def test_calibration_is_predictions_over_labels_on_every_sample(
    aligned: AlignedScores, sums: Sums, samples: Samples, ranking: Ranking
) -> None:
    def expected(table: pd.DataFrame, weights: npt.NDArray[Any]) -> float:
        counts, labels, scores = labelled(table, ranking)
        return float((scores * weights[counts]).sum() / (labels * weights[counts]).sum())

    estimate = group_metrics.calibration(sums, ranking, aligned.labels[ranking.target.name])
    assert_each(estimate, samples, expected)


@pytest.mark.parametrize("ranking", [RANKINGS[0], RANKINGS[2]], ids=lambda ranking: ranking.name)
def test_gauc_equals_a_loop_over_groups_on_every_sample(
    aligned: AlignedScores, samples: Samples, ranking: Ranking
) -> None:
    groups_used = []

    def expected(table: pd.DataFrame, weights: npt.NDArray[Any]) -> float:
        numerator = denominator = groups = 0.0
        for _, group in table.assign(weight=weights).groupby("group_hash"):
            _, labels, scores = labelled(group, ranking)
            if 0 < labels.sum() < len(labels):
                weight = len(group) * group.weight.iloc[0]
                numerator += weight * roc_auc_score(labels, scores)
                denominator += weight
                groups += 1
        groups_used.append(groups)
        return numerator / denominator

    frame = group_metrics.group_aucs(aligned.impressions, RANKINGS)
    estimate = group_metrics.gauc(group_metrics.weighted_sums(frame, SAMPLES, SEED), ranking)
    assert_each(estimate, samples, expected)
    assert estimate.counts["groups"] == groups_used[0] < 60


def test_sure_mistakes_cost_a_finite_loss(data: pd.DataFrame, scores_frame: ToFrame) -> None:
    two = data[:2].assign(pctr=[0.0, 1.0], click=[1, 0], conversion=[0, 0])
    aligned = align(scores_frame(two), 2)
    sums = group_metrics.weighted_sums(group_metrics.group_sums(aligned.impressions, RANKINGS[:1]), 0, SEED)
    aligned.impressions.unpersist()
    estimate = group_metrics.log_loss(sums, RANKINGS[0], aligned.labels["ctr"])
    assert estimate.value == pytest.approx(24 * np.log(2), rel=1e-7)


def test_what_is_undefined_has_no_value_but_a_reason(data: pd.DataFrame, scores_frame: ToFrame) -> None:
    none_clicked = data[:20].assign(click=0, conversion=0)
    aligned = align(scores_frame(none_clicked), 20)
    sums = group_metrics.weighted_sums(group_metrics.group_sums(aligned.impressions, RANKINGS), 3, SEED)
    aucs = group_metrics.weighted_sums(group_metrics.group_aucs(aligned.impressions, RANKINGS), 3, SEED)
    aligned.impressions.unpersist()
    labels = aligned.labels
    on_clicks = group_metrics.log_loss(sums, RANKINGS[1], labels["cvr_clicks"])
    assert (on_clicks.value, on_clicks.interval, on_clicks.reason) == (None, None, "no labelled impression")
    calibration = group_metrics.calibration(sums, RANKINGS[0], labels["ctr"])
    assert (calibration.value, calibration.reason) == (None, "no positive label")
    gauc = group_metrics.gauc(aucs, RANKINGS[0])
    assert (gauc.value, gauc.reason, gauc.counts["groups"]) == (None, "no group has both labels 0 and 1", 0)
