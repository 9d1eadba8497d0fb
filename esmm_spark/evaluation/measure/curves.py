"""Calibration curves and score histograms, from exact sums over a fine grid of scores.

The grid is even in log-odds, so that scores of 1e-5 are told apart as well as scores of 0.5. A cell keeps the
exact sums of its impressions' scores and labels; only the borders between bins lie on the grid.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CELLS_PER_UNIT = 32  # cells per unit of log-odds: neighbours differ by 3% in odds
_MAX_LOG_ODDS = 24  # a probability of 4e-11; what lies beyond shares the last cell
_HISTOGRAM_CELLS = 8  # cells per bar: 4 bars per unit of log-odds
_Z = 1.959964  # standard normal quantile of a two-sided 95% interval


@dataclass(frozen=True)
class ScoreGrid:
    """The impressions of one ranking by cell of their score, cells ascending, empty ones left out.

    Args:
        cells: `[C]` int64, floor(log-odds x 32).
        impressions: `[C]` float64.
        positives: `[C]` float64.
        scores: `[C]` float64, sums of the scores.
    """

    cells: NDArray[np.int64]
    impressions: NDArray[np.float64]
    positives: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationBin:
    """A bin of a calibration curve.

    Args:
        impressions: impressions in the bin.
        positives: those of them with label 1.
        mean_score: what the model promises.
        rate: positives / impressions, what happened.
        low: lower end of the rate's 95% interval, impressions taken as independent.
        high: upper end.
    """

    impressions: int
    positives: int
    mean_score: float
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Histogram:
    """Shares of each label's impressions by score.

    Args:
        edges: `[K + 1]` log-odds of the borders, evenly spaced.
        negatives: `[K]` share of the impressions with label 0 in each bar.
        positives: `[K]` likewise with label 1.
    """

    edges: NDArray[np.float64]
    negatives: NDArray[np.float64]
    positives: NDArray[np.float64]


def grid_of(cells: NDArray[np.float64]) -> ScoreGrid:
    """Returns the grid of the sums of all cells: `[3, C]`, impressions, positives and the sum of scores."""
    used = np.flatnonzero(cells[0])
    return ScoreGrid(used - _MAX_LOG_ODDS * _CELLS_PER_UNIT, *cells[:, used])


def _cell_borders() -> NDArray[np.float64]:
    """Returns the least score of each cell but the lowest one: the logistic function of its log-odds."""
    limit = _MAX_LOG_ODDS * _CELLS_PER_UNIT
    borders: NDArray[np.float64] = 1 / (1 + np.exp(-np.arange(1 - limit, limit + 1) / _CELLS_PER_UNIT))
    return borders


CELL_BORDERS = _cell_borders()


def calibration_curve(grid: ScoreGrid, num_bins: int) -> list[CalibrationBin]:
    """Returns at most `num_bins` bins of about equally many impressions, by ascending score.

    The intervals are Wilson's, which hold where a bin has few positives or none.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22, 1927.
    """
    through = np.cumsum(grid.impressions)
    # A cell belongs to the bin that its middle impression falls into.
    middle = through - grid.impressions / 2
    bins = np.minimum((middle * num_bins / through[-1]).astype(int), num_bins - 1)
    curve = []
    for index in np.unique(bins):
        mine = bins == index
        impressions, positives = float(grid.impressions[mine].sum()), float(grid.positives[mine].sum())
        rate = positives / impressions
        low, high = wilson_interval(positives, impressions)
        mean_score = float(grid.scores[mine].sum() / impressions)
        curve.append(CalibrationBin(int(impressions), int(positives), mean_score, rate, low, high))
    return curve


def wilson_interval(positives: float, impressions: float) -> tuple[float, float]:
    """Returns the 95% interval of a rate of `positives` among `impressions` > 0 independent impressions."""
    rate, shrink = positives / impressions, 1 + _Z**2 / impressions
    centre = (rate + _Z**2 / (2 * impressions)) / shrink
    half = _Z * np.sqrt(rate * (1 - rate) / impressions + (_Z / (2 * impressions)) ** 2) / shrink
    # With rates of 0 and 1 an end is the rate itself, but for rounding.
    return float(min(max(0.0, centre - half), rate)), float(max(min(1.0, centre + half), rate))


def histogram(grid: ScoreGrid) -> Histogram:
    """Returns the shares of both labels, from the lowest score's bar to the highest one's.

    A label that no impression has gets shares of 0.
    """
    bars = grid.cells // _HISTOGRAM_CELLS
    first, count = int(bars[0]), int(bars[-1] - bars[0] + 1)
    edges = (first + np.arange(count + 1)) * (_HISTOGRAM_CELLS / _CELLS_PER_UNIT)
    negatives = np.bincount(bars - first, grid.impressions - grid.positives, minlength=count)
    positives = np.bincount(bars - first, grid.positives, minlength=count)
    return Histogram(edges, _shares(negatives), _shares(positives))


def _shares(counts: NDArray[Any]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / max(1.0, float(counts.sum()))
    return shares
