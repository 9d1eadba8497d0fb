"""Calibration curves and histograms, against numpy and by hand."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from esmm_spark.evaluation.measure.alignment import AlignedScores, align
from esmm_spark.evaluation.measure.curves import (
    ScoreGrid,
    calibration_curve,
    histogram,
    score_grids,
    wilson_interval,
)
from esmm_spark.evaluation.measure.targets import CTR, CVR_CLICKS, Ranking
from tests.evaluation.scored_data import ToFrame

CTR_OF_MODEL, CVR_OF_MODEL = Ranking("model", CTR), Ranking("model", CVR_CLICKS)


def grid(*cells: tuple[int, int, int, float]) -> ScoreGrid:
    """Returns a grid of (cell, impressions, positives, sum of scores)."""
    columns = np.array(cells, dtype=float).T
    return ScoreGrid(columns[0].astype(int), *columns[1:])


@pytest.fixture(scope="module")
def aligned(data: pd.DataFrame, scores_frame: ToFrame) -> Iterator[AlignedScores]:
    result = align(scores_frame(data), len(data))
    yield result
    result.impressions.unpersist()


@pytest.mark.spark
def test_a_grid_has_the_exact_sums_of_its_cells(aligned: AlignedScores, data: pd.DataFrame) -> None:
    grids = score_grids(aligned.impressions, [CTR_OF_MODEL, CVR_OF_MODEL])
    clicked = data[data.click == 1]
    for ranking, rows, score, label in (
        (CTR_OF_MODEL, data, "pctr", "click"),
        (CVR_OF_MODEL, clicked, "pcvr", "conversion"),
    ):
        p = rows[score].to_numpy(np.float64)
        with np.errstate(divide="ignore"):
            cells = np.clip(np.floor(32 * (np.log(p) - np.log1p(-p))), -768, 768).astype(int)
        expected = (
            pd.DataFrame({"cell": cells, "p": p, "y": rows[label].to_numpy()})
            .groupby("cell")
            .agg(impressions=("y", "size"), positives=("y", "sum"), scores=("p", "sum"))
        )
        found = grids[ranking]
        assert found.cells.tolist() == expected.index.tolist()
        assert found.impressions.tolist() == expected.impressions.tolist()
        assert found.positives.tolist() == expected.positives.tolist()
        assert found.scores == pytest.approx(expected.scores.to_numpy(), abs=1e-12)


@pytest.mark.spark
def test_scores_of_0_and_1_have_a_cell_and_unknown_labels_have_none(
    data: pd.DataFrame, scores_frame: ToFrame
) -> None:
    rows = data[:4].assign(pctr=[0.0, 1.0, 0.5, 0.5], click=[1, 0, 1, None], conversion=[0, 0, 0, None])
    aligned = align(scores_frame(rows.astype({"click": object, "conversion": object})), 4)
    grids = score_grids(aligned.impressions, [CTR_OF_MODEL])
    nothing = score_grids(aligned.impressions.filter("click is null"), [CTR_OF_MODEL])
    aligned.impressions.unpersist()
    assert grids[CTR_OF_MODEL].cells.tolist() == [-768, 0, 768]
    assert grids[CTR_OF_MODEL].positives.tolist() == [1, 1, 0]
    assert nothing == {}


def test_a_calibration_bin_holds_its_share_of_the_impressions() -> None:
    even = grid((-96, 100, 4, 5.0), (-64, 100, 10, 12.0), (-32, 100, 30, 27.0), (0, 100, 50, 51.0))
    first, second = calibration_curve(even, 2)
    assert (first.impressions, first.positives, second.impressions, second.positives) == (200, 14, 200, 80)
    assert [first.mean_score, first.rate] == pytest.approx([0.085, 0.07])
    assert [second.mean_score, second.rate] == pytest.approx([0.39, 0.4])
    assert second.low < 0.4 < second.high


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1)), min_size=1, max_size=60), st.integers(1, 30)
)
def test_no_impression_is_lost_between_bins(cells: list[tuple[int, float]], num_bins: int) -> None:
    whole = grid(*((i, n, int(n * share), n * 0.1) for i, (n, share) in enumerate(cells)))
    curve = calibration_curve(whole, num_bins)
    assert 1 <= len(curve) <= num_bins
    assert sum(point.impressions for point in curve) == whole.impressions.sum()
    assert sum(point.positives for point in curve) == whole.positives.sum()
    assert all(point.low <= point.rate <= point.high for point in curve)


@pytest.mark.parametrize(("positives", "impressions"), [(0, 10), (3, 10), (10, 10), (5, 100_000)])
def test_the_interval_of_a_rate_is_wilsons(positives: int, impressions: int) -> None:
    expected = binomtest(positives, impressions).proportion_ci(0.95, method="wilson")
    assert wilson_interval(positives, impressions) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_a_histogram_has_shares_of_each_label() -> None:
    found = histogram(grid((-9, 5, 1, 1.0), (-8, 5, 0, 1.0), (-1, 10, 3, 4.0), (8, 2, 0, 1.0)))
    assert found.edges.tolist() == [-0.5, -0.25, 0, 0.25, 0.5]
    assert found.negatives.tolist() == pytest.approx([4 / 18, 12 / 18, 0, 2 / 18])
    assert found.positives.tolist() == pytest.approx([1 / 4, 3 / 4, 0, 0])


def test_a_label_that_nobody_has_is_flat() -> None:
    assert histogram(grid((0, 5, 0, 1.0))).positives.tolist() == [0]
