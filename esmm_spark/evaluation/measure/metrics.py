"""The metrics: what each is called, what it says, and the sums over impression groups that it is a ratio of.

A metric beside the AUC is (sum over groups of a numerator) / (sum over groups of a denominator): a resample
of groups is a weighted sum of the groups' sums, so one product of matrices gives all replicates.
CONTRIBUTING.md says how to add one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from esmm_spark.contracts.schemas.targets import KINDS, MetricKind
from esmm_spark.evaluation.kernels.group_aucs import GroupAucs, group_aucs
from esmm_spark.runtime.arrays import Float64s

# The spacing of float32 just below 1: a float32 score can't be nearer to 1 than this, so 0 and 1 are read as
# this far from certainty, and one sure mistake costs 16.6 nats instead of infinity.
LOG_LOSS_EPSILON = 2.0**-24


@dataclass(frozen=True)
class GroupedScores:
    """The impressions of whole groups, one ranking's scores and labels; G groups, N impressions.

    Args:
        scores: `[N]` float64, group by group.
        labels: `[N]` bool.
        is_known: `[N]` bool, whether an impression counts for the target.
        starts: `[G]` int64, where each group begins.
    """

    scores: Float64s
    labels: NDArray[np.bool_]
    is_known: NDArray[np.bool_]
    starts: NDArray[np.int64]

    def total(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> Float64s:
        """Returns `[G]`, the sums of `values` [N] over each group's impressions that count."""
        # Zeros, not a product: what doesn't count may be NaN.
        counted = np.where(self.is_known, values, 0.0)
        return np.add.reduceat(counted, self.starts)

    def sums(self, names: Iterable[str]) -> dict[str, Float64s]:
        """Returns the values `[G]` of sums by name."""
        return {name: SUMS[name](self) for name in names}

    @cached_property
    def aucs(self) -> GroupAucs:
        """Each group's AUC."""
        return group_aucs(self.scores, self.labels, self.is_known, self.starts)


def _loss(of: GroupedScores) -> Float64s:
    clipped = np.clip(of.scores, LOG_LOSS_EPSILON, 1 - LOG_LOSS_EPSILON)
    loss = -np.log1p(-clipped)
    loss[of.labels] = -np.log(clipped[of.labels])
    return of.total(loss)


# Name -> its value of each group, [G].
SUMS: Mapping[str, Callable[[GroupedScores], Float64s]] = {
    "impressions": lambda of: of.total(of.is_known),
    "labels": lambda of: of.total(of.labels),
    "predictions": lambda of: of.total(of.scores),
    "loss": _loss,
    "auc": lambda of: of.aucs.auc * of.aucs.impressions,
    "auc_impressions": lambda of: of.aucs.impressions,
    "auc_groups": lambda of: (of.aucs.impressions > 0).astype(np.float64),
}


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        kind: how results are keyed.
        title: how people read it.
        meaning: one line on what it says; {positive}, {negative}, {positives} and {population} stand for the
            target's own words.
        numerator: a name in SUMS; None for the AUC, which is no such ratio.
        denominator: a name in SUMS.
        if_undefined: says why there is no value where the denominator is 0.
        counts: name -> sum, shown beside the value; where there is none, the target's impressions and
            positives.
        decimals: with which it is written.
    """

    kind: MetricKind
    title: str
    meaning: str
    numerator: str | None = None
    denominator: str = "impressions"
    if_undefined: str = "no labelled impression"
    counts: tuple[tuple[str, str], ...] = ()
    decimals: int = 4

    @property
    def sums(self) -> tuple[str, ...]:
        """All sums that it needs."""
        if self.numerator is None:
            return ()
        return (self.numerator, self.denominator, *(name for _, name in self.counts))


_METRICS = (
    Metric(
        "auc",
        "AUC",
        "Chance that {positive} is scored above {negative}. 0.5 is guessing, 1 perfect.",
    ),
    Metric(
        "log_loss",
        "Log loss",
        "Mean penalty in nats for the probability given to what happened, over {population}. Lower is "
        "better.",
        "loss",
        decimals=5,
    ),
    # Source: He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014,
    # section 3 (calibration).
    Metric(
        "calibration",
        "Calibration ratio",
        "Predicted {positives} per actual one. 1 is right, above 1 promises too much.",
        "predictions",
        "labels",
        "no positive label",
        decimals=3,
    ),
    # Source: Zhu et al., "Optimized Cost per Click in Taobao Display Advertising", KDD 2017, equation 13.
    Metric(
        "gauc",
        "GAUC",
        "The AUC within one context, averaged over contexts by their impressions: how well the "
        "impressions of one user or request are ordered.",
        "auc",
        "auc_impressions",
        "no group has both labels 0 and 1",
        (("groups", "auc_groups"), ("impressions", "auc_impressions")),
    ),
)
# In the order of KINDS, that of BETTER, as reports show them.
METRICS: Mapping[MetricKind, Metric] = {
    metric.kind: metric for metric in sorted(_METRICS, key=lambda metric: KINDS.index(metric.kind))
}


def sums_of(kinds: tuple[MetricKind, ...]) -> tuple[str, ...]:
    """Returns the names of the sums that the metrics need, each once."""
    return tuple(dict.fromkeys(name for kind in kinds for name in METRICS[kind].sums))
