"""Calibration curves and histograms, against numpy and by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from esmm_spark.evaluation.kernels.sweep import SortedPass
from esmm_spark.evaluation.measure.curves import (
    CELL_BORDERS,
    ScoreGrid,
    calibration_curve,
    grid_of,
    histogram,
    wilson_interval,
)


def grid(*cells: tuple[int, int, int, float]) -> ScoreGrid:
    """Returns a grid of (cell, impressions, positives, sum of scores)."""
    columns = np.array(cells, dtype=float).T
    return ScoreGrid(columns[0].astype(int), *columns[1:])


def test_a_grid_has_the_exact_sums_of_its_cells(data: pd.DataFrame) -> None:
    p = data.pctr.to_numpy(np.float64)
    order = np.argsort(p)
    labels = data.click.to_numpy() == 1
    running = SortedPass(1, len(p), int(labels.sum()), 10, CELL_BORDERS)
    rows = np.zeros(len(p), dtype=np.int32)
    for start in range(0, len(p), 100):
        places = order[start : start + 100]
        running.add(p[places], labels[places], rows[places], np.ones((1, 1), np.uint8))
    found = grid_of(running.finish().cells)
    with np.errstate(divide="ignore"):
        cells = np.clip(np.floor(32 * (np.log(p) - np.log1p(-p))), -768, 768).astype(int)
    expected = (
        pd.DataFrame({"cell": cells, "p": p, "y": labels})
        .groupby("cell")
        .agg(impressions=("y", "size"), positives=("y", "sum"), scores=("p", "sum"))
    )
    assert found.cells.tolist() == expected.index.tolist()
    assert found.impressions.tolist() == expected.impressions.tolist()
    assert found.positives.tolist() == expected.positives.tolist()
    assert found.scores == pytest.approx(expected.scores.to_numpy(), abs=1e-12)


def test_scores_of_0_and_1_have_a_cell() -> None:
    places = np.searchsorted(CELL_BORDERS, [0.0, 1e-12, 0.5, 1.0], side="right")
    cells = np.zeros((3, len(CELL_BORDERS) + 1))
    np.add.at(cells[0], places, 1)
    assert grid_of(cells).cells.tolist() == [-768, 0, 768]
    assert grid_of(cells).impressions.tolist() == [2, 1, 1]


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
