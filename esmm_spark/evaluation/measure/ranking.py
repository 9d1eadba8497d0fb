"""One pass over impressions in ascending order of score: all that an exact AUC, its bootstrap and a ROC need.

Numpy only; `auc.py` has Spark feed it. Legend: R impressions (rows), S segments, B bootstrap samples. Every
array of weighted counts has 1 + B columns, column 0 with weight 1.

    AUC = (pairs won + pairs tied / 2) / (positives x negatives)

over pairs of a positive and a negative impression; a pair is won where the positive one has the higher
score. Doubled, `2 x won + tied` is an integer, so that no order of summation and no partitioning changes the
result (exact in float64 up to 2^53). Parts of a sorted sequence join by

    wins2(A then B) = wins2(A) + wins2(B) + 2 x positives(B) x negatives(A)

which is why one pass is enough: no part needs to know what came before it.

Source: Hanley, McNeil, "The Meaning and Use of the Area under a ROC Curve", Radiology 143, 1982 (AUC is the
Mann-Whitney statistic, ties count one half).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esmm_spark.evaluation.measure.estimates import Estimate

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class RankedPart:
    """The sums of a contiguous part of the sorted impressions of one ranking.

    Args:
        first_score: its lowest score.
        last_score: its highest score.
        wins2: `[1 + B]` float64, 2 x pairs won + pairs tied within the part.
        positives: `[1 + B]` float64, weighted positive impressions.
        negatives: `[1 + B]` float64, weighted negative impressions.
        roc_positives: `[K]` float64, positives up to and including the K sampled scores, counted from the
            part's start.
        roc_negatives: `[K]` float64, negatives likewise.
    """

    first_score: float
    last_score: float
    wins2: NDArray[np.float64]
    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]
    roc_positives: NDArray[np.float64]
    roc_negatives: NDArray[np.float64]


class SortedPass:
    """Running sums over one ranking's impressions, fed in ascending order of score, in blocks of any size.

    A tie may lie across blocks: the last score's sums are held back until another score comes.

    Args:
        num_columns: 1 + B.
        roc_strides: negatives and positives between two points of the ROC curve.
    """

    def __init__(self, num_columns: int, roc_strides: tuple[int, int]) -> None:
        self._strides = roc_strides
        self._wins2 = np.zeros(num_columns)
        self._positives = np.zeros(num_columns, dtype=np.int64)
        self._negatives = np.zeros(num_columns, dtype=np.int64)
        self._first_score: float | None = None
        self._tie: tuple[float, Counts, Counts] | None = None
        self._roc: list[tuple[Counts, Counts]] = []

    def add(self, scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.uint8]) -> None:
        """Adds the next block.

        Args:
            scores: `[R]`, R > 0, ascending, none below those added before.
            labels: `[R]`.
            weights: `[R, 1 + B]`.
        """
        segment_scores, positives, negatives = _segments(scores, labels, weights)
        if self._first_score is None:
            self._first_score = float(segment_scores[0])
        if self._tie is not None:
            tied_score, tied_positives, tied_negatives = self._tie
            if segment_scores[0] == tied_score:
                positives[0] += tied_positives
                negatives[0] += tied_negatives
            else:
                self._accumulate(tied_positives[None], tied_negatives[None])
        self._tie = float(segment_scores[-1]), positives[-1], negatives[-1]
        self._accumulate(positives[:-1], negatives[:-1])

    def finish(self) -> RankedPart:
        """Returns the sums of all blocks added, of which there must be one at least."""
        assert self._tie is not None
        assert self._first_score is not None
        last_score, positives, negatives = self._tie
        self._accumulate(positives[None], negatives[None])
        return RankedPart(
            self._first_score,
            last_score,
            self._wins2,
            self._positives.astype(np.float64),
            self._negatives.astype(np.float64),
            np.concatenate([p for p, _ in self._roc]).astype(np.float64),
            np.concatenate([n for _, n in self._roc]).astype(np.float64),
        )

    def _accumulate(self, positives: Counts, negatives: Counts) -> None:
        """Adds finished segments, `[S, 1 + B]` each, in ascending order of score."""
        if len(positives) == 0:
            return
        negatives_through = self._negatives + np.cumsum(negatives, axis=0)
        has_positive = positives[:, 0] > 0
        below_and_through = 2 * negatives_through[has_positive] - negatives[has_positive]
        self._wins2 += np.einsum("sb,sb->b", positives[has_positive].astype(np.float64), below_and_through)
        positives_through = self._positives[0] + np.cumsum(positives[:, 0])
        self._sample_roc(positives_through, negatives_through[:, 0])
        self._positives = self._positives + positives.sum(axis=0)
        self._negatives = negatives_through[-1]

    def _sample_roc(self, positives: Counts, negatives: Counts) -> None:
        """Keeps the points at which either count enters another stride: exact vertices of the curve."""
        cell = np.stack([negatives // self._strides[0], positives // self._strides[1]])
        before = np.array(
            [[self._negatives[0] // self._strides[0]], [self._positives[0] // self._strides[1]]]
        )
        entered = (np.diff(np.concatenate([before, cell], axis=1), axis=1) > 0).any(axis=0)
        self._roc.append((positives[entered], negatives[entered]))


def _segments(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], Counts, Counts]:
    """Returns scores `[S]`, weighted positives and negatives `[S, 1 + B]` of the segments of a sorted block.

    A segment is one score, or several in a row that no positive impression has: between two positives only
    the number of negatives counts. With few positives that leaves few segments, and the sums below cost more
    than all the rest. The first and the last score are segments of their own, since the blocks beside this
    one may hold them too.
    """
    new_score = np.concatenate([[True], scores[1:] != scores[:-1]])
    starts = np.flatnonzero(new_score)
    has_positive = np.logical_or.reduceat(labels, starts)
    opens = has_positive | np.concatenate([[True], has_positive[:-1]])
    opens[:2] = True
    opens[-1] = True
    segment_starts, segment_has_positive = starts[opens], has_positive[opens]
    negatives = np.add.reduceat(weights, segment_starts, axis=0, dtype=np.int64)
    positives = np.zeros_like(negatives)
    if segment_has_positive.any():
        # reduceat can't sum nothing, so only the segments with positives take part.
        rows = np.flatnonzero(labels)
        first_positive = np.searchsorted(rows, segment_starts[segment_has_positive])
        sums = np.add.reduceat(weights[rows], first_positive, axis=0, dtype=np.int64)
        positives[segment_has_positive] = sums
        negatives[segment_has_positive] -= sums
    return scores[segment_starts], positives, negatives


def join_parts(parts: Sequence[RankedPart]) -> RankedPart:
    """Returns the sums of all `parts` of one ranking, whose ranges of scores must not overlap.

    The parts may come in any order. A score lies in one part only, or its ties would count as won.
    """
    ordered = sorted(parts, key=lambda part: part.first_score)
    wins2, positives, negatives = (np.zeros_like(ordered[0].wins2) for _ in range(3))
    roc_positives, roc_negatives = [], []
    last_score = -np.inf
    for part in ordered:
        assert part.first_score > last_score, (part.first_score, last_score)
        last_score = part.last_score
        wins2 = wins2 + part.wins2 + 2 * part.positives * negatives
        roc_positives.append(part.roc_positives + positives[0])
        roc_negatives.append(part.roc_negatives + negatives[0])
        positives = positives + part.positives
        negatives = negatives + part.negatives
    return RankedPart(
        ordered[0].first_score,
        last_score,
        wins2,
        positives,
        negatives,
        np.concatenate(roc_positives),
        np.concatenate(roc_negatives),
    )


def auc_estimate(total: RankedPart) -> Estimate:
    """Returns the AUC of all impressions of a ranking, with its replicates."""
    pairs = total.positives * total.negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        auc = np.where(pairs > 0, total.wins2 / (2 * pairs), np.nan)
    positives, negatives = int(total.positives[0]), int(total.negatives[0])
    counts = {"impressions": positives + negatives, "positives": positives}
    if pairs[0] == 0:
        missing = "positive" if positives == 0 else "negative"
        return Estimate(None, auc[1:], f"one class only: no {missing} label", counts)
    return Estimate(float(auc[0]), auc[1:], None, counts)


def roc_curve(total: RankedPart, max_points: int = 500) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns false and true positive rates, `[K]` each from (0, 0) to (1, 1), K <= max_points.

    The points are exact vertices of the curve, about evenly spaced along both axes.
    """
    positives, negatives = total.positives[0], total.negatives[0]
    if positives == 0 or negatives == 0:
        return np.empty(0), np.empty(0)
    false_rate = np.concatenate([[1.0], 1 - total.roc_negatives / negatives, [0.0]])[::-1]
    true_rate = np.concatenate([[1.0], 1 - total.roc_positives / positives, [0.0]])[::-1]
    keep = np.unique(np.linspace(0, len(false_rate) - 1, max_points).round().astype(int))
    return false_rate[keep], true_rate[keep]
