"""The sorted pass against counting every pair, and against sklearn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from esmm_spark.evaluation.kernels.group_aucs import group_aucs
from esmm_spark.evaluation.kernels.sweep import SortedPass, Swept
from esmm_spark.evaluation.measure.curves import CELL_BORDERS
from esmm_spark.evaluation.measure.ranking import auc_estimate, join_parts, roc_curve

# (score, label, weights in two bootstrap samples); few scores, so that most tie.
IMPRESSIONS = st.lists(
    st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40
)


def pass_over(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.uint8], block_ends: list[int]
) -> Swept:
    """Returns the sums of impressions that are each a group of their own."""
    running = SortedPass(weights.shape[1], len(labels), int(labels.sum()), 200, CELL_BORDERS)
    for start, stop in zip([0, *block_ends], [*block_ends, len(scores)], strict=True):
        if stop > start:
            rows = np.arange(start, stop, dtype=np.int32)
            running.add(scores[start:stop], labels[start:stop], rows, weights)
    return running.finish()


def count_pairs(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float | None:
    """Returns the weighted AUC by looking at every pair of a positive and a negative impression."""
    won = total = 0.0
    for i in np.flatnonzero(labels):
        for j in np.flatnonzero(~labels):
            pair = float(weights[i]) * float(weights[j])
            total += pair
            won += pair * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    return won / total if total else None


@settings(deadline=None)
@given(IMPRESSIONS, st.data())
def test_auc_is_the_share_of_pairs_won_however_the_impressions_are_cut(
    impressions: list[tuple[int, bool, int, int]], data: st.DataObject
) -> None:
    impressions = sorted(impressions, key=lambda row: row[0])
    scores = np.array([row[0] / 7 for row in impressions])
    labels = np.array([row[1] for row in impressions])
    weights = np.array([[1, row[2], row[3]] for row in impressions], dtype=np.uint8)
    cuts = st.lists(st.integers(0, len(scores)), max_size=5).map(sorted)
    # Parts are what two tasks hold: no score lies in both.
    middle = int(np.searchsorted(scores, data.draw(st.sampled_from(scores.tolist()))))
    parts = []
    for start, stop in ((0, middle), (middle, len(scores))):
        if stop > start:
            ends = [min(cut, stop - start) for cut in data.draw(cuts)]
            parts.append(pass_over(scores[start:stop], labels[start:stop], weights[start:stop], ends))
    total = join_parts(parts[::-1])
    assert total.cells[:2].sum(axis=1).tolist() == [len(labels), labels.sum()]
    assert total.cells[2].sum() == pytest.approx(scores.sum())
    estimate = auc_estimate(total, 2)
    for column, found in enumerate([estimate.value, *estimate.replicates]):
        expected = count_pairs(scores, labels, weights[:, column].astype(np.float64))
        if expected is None:
            assert found is None or np.isnan(found)
        else:
            assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("positive_rate", [0.003, 0.3, 0.9])
@pytest.mark.parametrize("digits", [1, 7])
def test_auc_equals_sklearn_with_ties_and_weights(positive_rate: float, digits: int) -> None:
    rng = np.random.default_rng(5)
    scores = np.sort(np.round(rng.random(20_000), digits))
    labels = rng.random(20_000) < positive_rate * 2 * scores
    weights = np.concatenate([np.ones((20_000, 1)), rng.poisson(1, (20_000, 3))], axis=1).astype(np.uint8)
    estimate = auc_estimate(pass_over(scores, labels, weights, [100, 7000, 7001]), 3)
    assert estimate.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    for sample in range(3):
        expected = roc_auc_score(labels, scores, sample_weight=weights[:, 1 + sample])
        assert estimate.replicates[sample] == pytest.approx(expected, abs=1e-12)


def test_sums_of_bytes_never_overflow() -> None:
    scores = np.arange(50_000) / 50_000
    labels = scores == scores[-1]
    estimate = auc_estimate(pass_over(scores, labels, np.full((50_000, 2), 8, np.uint8), []), 1)
    assert estimate.replicates.tolist() == [1.0]
    total = pass_over(scores, labels, np.full((50_000, 2), 8, np.uint8), [30_000])
    assert total.negatives.tolist() == [8 * 49_999] * 2


def test_one_tie_over_many_blocks_is_worth_half() -> None:
    scores = np.full(100, 0.25)
    labels = np.arange(100) % 3 == 0
    total = pass_over(scores, labels, np.ones((100, 2), np.uint8), list(range(1, 100)))
    estimate = auc_estimate(total, 1)
    assert estimate.value == 0.5
    assert estimate.replicates.tolist() == [0.5]


def test_one_class_has_no_auc_but_a_reason() -> None:
    scores = np.array([0.1, 0.2])
    weights = np.ones((2, 1), np.uint8)
    none_clicked = auc_estimate(pass_over(scores, np.array([False, False]), weights, []), 0)
    assert none_clicked.as_dict() == {
        "value": None,
        "low": None,
        "high": None,
        "impressions": 2,
        "positives": 0,
        "reason": "one class only: no positive label",
    }
    all_clicked = auc_estimate(pass_over(scores, np.array([True, True]), weights, []), 0)
    assert all_clicked.reason == "one class only: no negative label"


def test_parts_that_share_a_score_are_refused() -> None:
    part = pass_over(np.array([0.1, 0.2]), np.array([True, False]), np.ones((2, 1), np.uint8), [])
    with pytest.raises(AssertionError):
        join_parts([part, part])


@pytest.mark.parametrize("cuts", [[], [9_000, 20_000, 49_000]])
def test_roc_curve_has_few_points_and_the_area_of_the_auc(cuts: list[int]) -> None:
    rng = np.random.default_rng(6)
    scores = np.sort(rng.random(50_000))
    labels = rng.random(50_000) < 0.1 * scores
    weights = np.ones((50_000, 1), np.uint8)
    total = join_parts(
        [
            pass_over(scores[start:stop], labels[start:stop], weights[start:stop], [])
            for start, stop in zip([0, *cuts], [*cuts, 50_000], strict=True)
        ]
    )
    false_rate, true_rate = roc_curve(total)
    assert 200 <= len(false_rate) <= 500
    assert (false_rate[0], true_rate[0], false_rate[-1], true_rate[-1]) == (0, 0, 1, 1)
    assert (np.diff(false_rate) >= 0).all()
    assert (np.diff(true_rate) >= 0).all()
    auc = auc_estimate(total, 0).value
    assert np.trapz(true_rate, false_rate) == pytest.approx(auc, abs=1e-3)


def test_roc_curve_of_few_impressions_is_exact() -> None:
    scores = np.array([0.1, 0.2, 0.2, 0.3])
    labels = np.array([False, True, False, True])
    false_rate, true_rate = roc_curve(pass_over(scores, labels, np.ones((4, 1), np.uint8), [2]))
    points = sorted(set(zip(false_rate.tolist(), true_rate.tolist(), strict=True)))
    assert points == [(0, 0), (0, 0.5), (0.5, 1), (1, 1)]


def test_a_groups_auc_equals_sklearns_whatever_its_size() -> None:
    rng = np.random.default_rng(8)
    sizes = [1, 2, 255, 256, 257, 5000, 40, 3]
    starts = np.cumsum([0, *sizes[:-1]])
    scores = np.round(rng.random(sum(sizes)), 2)
    labels = rng.random(len(scores)) < 0.3
    is_known = rng.random(len(scores)) < 0.9
    found = group_aucs(scores, labels, is_known, starts)
    for group, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        known = np.flatnonzero(is_known[start : start + size]) + start
        if 0 < labels[known].sum() < len(known):
            assert found.auc[group] == pytest.approx(roc_auc_score(labels[known], scores[known]), abs=1e-12)
            assert found.impressions[group] == len(known)
        else:
            assert (found.auc[group], found.impressions[group]) == (0, 0)
