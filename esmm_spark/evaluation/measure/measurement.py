"""All metrics, differences and curves of aligned scores; what leaves Spark is small, whatever goes in."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esmm_spark.evaluation.measure import auc, group_metrics
from esmm_spark.evaluation.measure.alignment import AlignedScores
from esmm_spark.evaluation.measure.curves import (
    CalibrationBin,
    Histogram,
    calibration_curve,
    histogram,
    score_grids,
)
from esmm_spark.evaluation.measure.estimates import Estimate, difference
from esmm_spark.evaluation.measure.ranking import RankedPart, auc_estimate, roc_curve
from esmm_spark.evaluation.measure.targets import (
    BASELINE,
    MODEL,
    Kind,
    LabelCounts,
    Ranking,
    Target,
    rankings_of,
)


@dataclass(frozen=True)
class Curves:
    """The curves of one ranking.

    Args:
        roc: false and true positive rates, `[K]` each; empty with one class only.
        calibration: by ascending score.
        histogram: by ascending score.
    """

    roc: tuple[NDArray[np.float64], NDArray[np.float64]]
    calibration: list[CalibrationBin]
    histogram: Histogram


@dataclass(frozen=True)
class Measurements:
    """Everything that was measured.

    Args:
        series: as in `AlignedScores`.
        targets: those that the inputs allow.
        num_impressions: impressions scored.
        num_unlabelled: impressions without a click label.
        num_groups: impression groups, by their key.
        labels: target name -> impressions with a label, and positives.
        estimates: (series, metric's key) -> estimate.
        differences: metric's key -> model - baseline, paired by resample; empty without a baseline.
        curves: ranking -> curves; without the rankings that have no labelled impression.
    """

    series: tuple[str, ...]
    targets: tuple[Target, ...]
    num_impressions: int
    num_unlabelled: int
    num_groups: int
    labels: Mapping[str, LabelCounts]
    estimates: Mapping[tuple[str, str], Estimate]
    differences: Mapping[str, Estimate]
    curves: Mapping[Ranking, Curves]

    def estimate(self, series: str, target: Target, kind: Kind) -> Estimate:
        """Returns one metric of one series."""
        return self.estimates[series, target.metric(kind)]


def measure(aligned: AlignedScores, num_samples: int, seed: int, calibration_bins: int) -> Measurements:
    """Returns all metrics of all series, in four passes over the cached impressions.

    Args:
        aligned: scores, baseline and truth side by side.
        num_samples: bootstrap samples of the groups, B; 0 for no intervals.
        seed: of the bootstrap.
        calibration_bins: bins of a calibration curve.

    Raises:
        CountMismatchError: not every labelled impression was ranked.
    """
    impressions, labels = aligned.impressions, aligned.labels
    rankings = rankings_of(aligned.series, aligned.has_truth)
    ranked = auc.rank(impressions, rankings, dict(labels), num_samples, seed)
    sums = group_metrics.weighted_sums(group_metrics.group_sums(impressions, rankings), num_samples, seed)
    grouped = [ranking for ranking in rankings if "gauc" in ranking.target.kinds]
    group_aucs = group_metrics.group_aucs(impressions, grouped)
    gauc_sums = group_metrics.weighted_sums(group_aucs, num_samples, seed)
    estimates = {}
    for ranking in rankings:
        counts = labels[ranking.target.name]
        by_kind = {
            "auc": _auc(ranked.get(ranking), num_samples),
            "log_loss": group_metrics.log_loss(sums, ranking, counts),
            "calibration": group_metrics.calibration(sums, ranking, counts),
        }
        if ranking in grouped:
            by_kind["gauc"] = group_metrics.gauc(gauc_sums, ranking)
        for kind in ranking.target.kinds:
            estimates[ranking.series, ranking.target.metric(kind)] = by_kind[kind]
    grids = score_grids(impressions, rankings)
    curves = {
        ranking: Curves(
            roc_curve(ranked[ranking]), calibration_curve(grid, calibration_bins), histogram(grid)
        )
        for ranking, grid in grids.items()
    }
    return Measurements(
        series=aligned.series,
        targets=tuple(ranking.target for ranking in rankings if ranking.series == MODEL),
        num_impressions=aligned.num_impressions,
        num_unlabelled=aligned.num_unlabelled,
        num_groups=round(sums["groups"][0]),
        labels=labels,
        estimates=estimates,
        differences=_differences(estimates) if BASELINE in aligned.series else {},
        curves=curves,
    )


def _auc(ranked: RankedPart | None, num_samples: int) -> Estimate:
    if ranked is not None:
        return auc_estimate(ranked)
    nothing = {"impressions": 0, "positives": 0}
    return Estimate(None, np.full(num_samples, np.nan), "no labelled impression", nothing)


def _differences(estimates: Mapping[tuple[str, str], Estimate]) -> dict[str, Estimate]:
    return {
        metric: difference(estimate, estimates[BASELINE, metric])
        for (series, metric), estimate in estimates.items()
        if series == MODEL
    }
