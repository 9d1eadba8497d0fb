"""How well one column alone separates positives from negatives: AUCs by its numbers and by its values."""

import numpy as np

from esmm_spark.profile.counts.facts import Separation
from esmm_spark.runtime.arrays import Bools, Float64s, Int64s

# Fewer of either label in a half, and an AUC says nothing.
MIN_OF_A_LABEL = 20
# Lines of the mean rate that a value's own rate is mixed with: a value on few lines says little.
_PRIOR_LINES = 2.0


def separation(
    numbers: Float64s, hashes: Int64s, is_missing: Bools, labels: Bools, halves: Bools
) -> Separation:
    """Returns the AUCs of one column for one task; arrays [N] of the lines on which it is judged.

    Args:
        numbers: the values as numbers, NaN where they are none.
        hashes: of the values.
        is_missing: where there is no value.
        labels: the task's.
        halves: which half of the groups a line is of.
    """
    return Separation(_by_number(numbers, is_missing, labels), _by_value(hashes, is_missing, labels, halves))


def area_under_curve(scores: Float64s, labels: Bools) -> float | None:
    """Returns the AUC, ties counted half, None where a label is rarer than MIN_OF_A_LABEL."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if min(positives, negatives) < MIN_OF_A_LABEL:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = mean_ranks[place][labels].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def _by_number(numbers: Float64s, is_missing: Bools, labels: Bools) -> float | None:
    known = ~np.isnan(numbers)
    if not known.any() or not (known | is_missing).all():
        return None
    # Lines without a number may be the lowest or the highest of all.
    found = [area_under_curve(np.where(known, numbers, lowest), labels) for lowest in (-np.inf, np.inf)]
    return max((max(auc, 1 - auc) for auc in found if auc is not None), default=None)


def _by_value(hashes: Int64s, is_missing: Bools, labels: Bools, halves: Bools) -> float | None:
    """Returns the mean of two AUCs: each half's rates judged on the other half.

    In-sample rates would give a unique id an AUC of 1: of a value that the other half doesn't have, the rate
    is that of all values that are there.
    """
    found = []
    for half in (False, True):
        learned, judged = halves == half, halves != half
        rates = _rates(hashes, is_missing, labels, learned)
        found.append(area_under_curve(rates[judged], labels[judged]))
    if found[0] is None or found[1] is None:
        return None
    return (found[0] + found[1]) / 2


def _rates(hashes: Int64s, is_missing: Bools, labels: Bools, learned: Bools) -> Float64s:
    """Returns each line's [N] rate of its value among the lines `learned`."""
    values, place = np.unique(hashes, return_inverse=True)
    rates = np.zeros(len(labels))
    for of_missing in (True, False):
        concerned = is_missing == of_missing
        within = learned & concerned
        counts = np.bincount(place[within], minlength=len(values))
        positives = np.bincount(place[within], weights=labels[within], minlength=len(values))
        mean = labels[within].mean() if within.any() else 0.0
        smoothed = (positives + _PRIOR_LINES * mean) / (counts + _PRIOR_LINES)
        rates[concerned] = smoothed[place[concerned]]
    return rates


def differing_keys(keys: Int64s, hashes: Int64s) -> int:
    """Returns the keys within which a column has several values; both [N]."""
    if len(keys) == 0:
        return 0
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order][0] - 1) != 0)
    lowest, highest = (each.reduceat(hashes[order], starts) for each in (np.minimum, np.maximum))
    return int((lowest != highest).sum())
