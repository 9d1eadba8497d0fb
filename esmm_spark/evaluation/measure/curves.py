"""Calibration curves and score histograms, from one aggregation over a fine grid of scores.

The grid is even in log-odds, so that scores of 1e-5 are told apart as well as scores of 0.5. A cell keeps the
exact sums of its impressions' scores and labels; only the borders between bins lie on the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esmm_spark.evaluation.measure.targets import Ranking

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


def score_grids(aligned: DataFrame, rankings: Sequence[Ranking]) -> dict[Ranking, ScoreGrid]:
    """Returns the grid of every ranking; one without labelled impressions is left out.

    Args:
        aligned: the rankings' scores and the columns of the targets' labels.
        rankings: what to compute.
    """
    rows = [
        F.struct(
            F.lit(index).alias("ranking"),
            F.col(ranking.score).cast("double").alias("score"),
            F.expr(ranking.target.label).cast("int").alias("label"),
        )
        for index, ranking in enumerate(rankings)
    ]
    limit = _MAX_LOG_ODDS * _CELLS_PER_UNIT
    # 0 and 1 have infinite log-odds: ln(0) is null in Spark, and least and greatest skip nulls.
    log_odds = F.log("score") - F.log1p(-F.col("score"))
    cell = F.greatest(F.lit(-limit), F.least(F.lit(limit), F.floor(log_odds * _CELLS_PER_UNIT)))
    cell = F.when(F.col("score") <= 0, -limit).when(F.col("score") >= 1, limit).otherwise(cell)
    table = (
        aligned.select(F.inline(F.array(*rows)))
        .filter(F.col("label").isNotNull())
        .groupBy("ranking", cell.cast("int").alias("cell"))
        .agg(
            F.count("label").alias("impressions"),
            F.sum("label").alias("positives"),
            F.sum("score").alias("scores"),
        )
        .toArrow()
        .sort_by([("ranking", "ascending"), ("cell", "ascending")])
    )
    columns = {name: table[name].to_numpy() for name in table.column_names}
    grids = {}
    for index, ranking in enumerate(rankings):
        mine = columns["ranking"] == index
        if mine.any():
            sums = (columns[name][mine].astype(np.float64) for name in ("impressions", "positives", "scores"))
            grids[ranking] = ScoreGrid(columns["cell"][mine].astype(np.int64), *sums)
    return grids


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
