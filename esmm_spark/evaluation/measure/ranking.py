"""Exact AUCs with bootstrap replicates of the parts that `kernels/sweep.py` has summed.

Parts of a sorted sequence join by

    wins2(A then B) = wins2(A) + wins2(B) + 2 x positives(B) x negatives(A)

with wins2 = 2 x pairs won + pairs tied, so no part needs to know what came before it, and no partitioning
changes the result. Legend: B bootstrap samples. Vectors have at least 1 + B columns, column 0 without
weights.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmm_spark.evaluation.kernels.sweep import Swept
from esmm_spark.evaluation.measure.estimates import Estimate

_ROC_STRIDES = 200  # strides along either axis of a ROC curve


def join_parts(parts: Sequence[Swept]) -> Swept:
    """Returns the sums of all `parts` of one ranking, whose ranges of scores must not overlap.

    The parts may come in any order. A score lies in one part only, or its ties would count as won.
    """
    ordered = sorted(parts, key=lambda part: part.first_score)
    wins2, positives, negatives = (np.zeros_like(ordered[0].wins2) for _ in range(3))
    roc, cells = [], np.zeros_like(ordered[0].cells)
    last_score = -np.inf
    for part in ordered:
        assert part.first_score > last_score, (part.first_score, last_score)
        last_score = part.last_score
        wins2 = wins2 + part.wins2 + 2 * part.positives * negatives
        roc.append(part.roc + np.array([[positives[0]], [negatives[0]]]))
        positives = positives + part.positives
        negatives = negatives + part.negatives
        cells = cells + part.cells
    whole = np.concatenate(roc, axis=1)
    return Swept(ordered[0].first_score, last_score, wins2, positives, negatives, whole, cells)


def auc_estimate(total: Swept, num_samples: int) -> Estimate:
    """Returns the AUC of all impressions of a ranking, with its B replicates."""
    pairs = total.positives * total.negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = np.where(pairs > 0, total.wins2 / (2 * pairs), np.nan)[: 1 + num_samples]
    positives, negatives = int(total.positives[0]), int(total.negatives[0])
    counts = {"impressions": positives + negatives, "positives": positives}
    if pairs[0] == 0:
        missing = "positive" if positives == 0 else "negative"
        return Estimate(None, auc[1:], f"one class only: no {missing} label", counts)
    return Estimate(float(auc[0]), auc[1:], None, counts)


def roc_curve(total: Swept, max_points: int = 500) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns false and true positive rates, `[K]` each from (0, 0) to (1, 1), K <= max_points.

    The points are exact vertices of the curve, about evenly spaced along both axes.
    """
    positives, negatives = total.positives[0], total.negatives[0]
    if positives == 0 or negatives == 0:
        return np.empty(0), np.empty(0)
    roc_positives, roc_negatives = _at_strides(total.roc, positives, negatives)
    false_rate = np.concatenate([[1.0], 1 - roc_negatives / negatives, [0.0]])[::-1]
    true_rate = np.concatenate([[1.0], 1 - roc_positives / positives, [0.0]])[::-1]
    keep = np.unique(np.linspace(0, len(false_rate) - 1, max_points).round().astype(int))
    return false_rate[keep], true_rate[keep]


def _at_strides(roc: Any, positives: float, negatives: float) -> Any:
    """Returns the points `[2, K]` at which either count enters another stride of the whole ranking."""
    strides = [[max(1, count // _ROC_STRIDES)] for count in (positives, negatives)]
    stride = np.concatenate([np.zeros((2, 1)), roc // strides], axis=1)
    return roc[:, (np.diff(stride, axis=1) > 0).any(axis=0)]
