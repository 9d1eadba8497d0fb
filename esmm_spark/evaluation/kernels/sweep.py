"""One pass over impressions in ascending order of score: all that an exact AUC, its bootstrap and a ROC need.

Legend: N impressions, W columns of weights (`weights.py`), column 0 of ones.

    AUC = (pairs won + pairs tied / 2) / (positives x negatives)

over pairs of a positive and a negative impression; a pair is won where the positive one has the higher
score. Doubled, `2 x won + tied` is an integer, so that no order of summation and no partitioning changes the
result (exact in float64 up to 2^53).

A negative impression adds its group's weights to running sums of bytes, which vectorises: some 10 ns at 200
samples, if they are there: they lie anywhere in a table, so they are fetched ahead. Only where scores have a
positive impression are sums of float64 made.

Source: Hanley, McNeil, "The Meaning and Use of the Area under a ROC Curve", Radiology 143, 1982 (AUC is the
Mann-Whitney statistic, ties count one half).
"""

from typing import Any, NamedTuple

import numpy as np

from esmm_spark.evaluation.kernels.compiling import inlined_kernel, kernel
from esmm_spark.evaluation.kernels.weights import MAX_WEIGHT
from esmm_spark.runtime.prefetching import prefetch_span

# So many impressions' weights are summed in 16 bits.
_MOST_IN_16_BITS = ((1 << 16) - 1) // MAX_WEIGHT

# Impressions between the fetch of a group's weights and their use.
_AHEAD = 12

# Places of `PairSums.counts`.
_IS_OPEN, _OPEN, _OPEN_POSITIVES, _CLOSED, _CLOSED_POSITIVES, _IN_16_BITS, _ROC_POINTS, _CELL = range(8)
# Of negatives and positives: so many begin the next stride.
_NEXT_NEGATIVES, _NEXT_POSITIVES = 8, 9


class PairSums(NamedTuple):
    """Running sums of a pass, from which its AUC follows.

    A score is open from its first impression on until another score comes, if it has positives or may go on
    in the next chunk.

    Attributes:
        wins2: float64 [W], 2 x pairs won + pairs tied.
        positives: float64 [W], weighted positives below the open score.
        negatives: float64 [W], weighted negatives below it, without those in `recent`.
        open_positives: float64 [W], of the open score.
        open_negatives: float64 [W].
        recent: uint16 [W], weighted negatives since the last time that they were added to `negatives`.
        counts: int64 [10], numbers of the places named above; what is closed is below the open score.
        open_score: float64 [1].
    """

    wins2: Any
    positives: Any
    negatives: Any
    open_positives: Any
    open_negatives: Any
    recent: Any
    counts: Any
    open_score: Any


class CurveSums(NamedTuple):
    """Running sums of a pass for its ROC and calibration curves.

    Attributes:
        strides: int64 [2], negatives and positives between two points of the ROC curve.
        roc: float64 [2, K], positives and negatives up to and including the sampled scores.
        borders: float64 [C - 1], the least score of each cell but the first.
        cells: float64 [3, C], impressions, positives and the sum of scores by cell.
    """

    strides: Any
    roc: Any
    borders: Any
    cells: Any


class Swept(NamedTuple):
    """The sums over a contiguous part of one ranking's sorted impressions.

    Attributes:
        first_score: its lowest score.
        last_score: its highest score.
        wins2: float64 [W], 2 x pairs won + pairs tied within the part.
        positives: float64 [W], weighted.
        negatives: float64 [W], weighted.
        roc: float64 [2, K], positives and negatives up to and including K scores, from the part's start on.
        cells: float64 [3, C], impressions, positives and the sum of scores by cell.
    """

    first_score: float
    last_score: float
    wins2: Any
    positives: Any
    negatives: Any
    roc: Any
    cells: Any


class SortedPass:
    """Running sums over one ranking's impressions, fed in ascending order of score, in chunks of any size.

    Args:
        num_columns: W.
        impressions: how many will be fed, of them with label 1 `positives`.
        positives: see there.
        points: of the ROC curve, along either axis.
        borders: `[C - 1]` float64, the least score of each cell of scores but the first.
    """

    def __init__(self, num_columns: int, impressions: int, positives: int, points: int, borders: Any) -> None:
        vectors = (np.zeros(num_columns) for _ in range(5))
        counts, score = np.zeros(10, dtype=np.int64), np.zeros(1)
        recent = np.zeros(num_columns, dtype=np.uint16)
        self._sums = PairSums._make((*vectors, recent, counts, score))
        strides = [max(1, count // points) for count in (impressions - positives, positives)]
        counts[[_NEXT_NEGATIVES, _NEXT_POSITIVES]] = strides
        # A stride is entered at most 2 x points times: the rest of a division is less than its divisor.
        self._curve = CurveSums(
            np.array(strides, dtype=np.int64),
            np.zeros((2, 4 * points + 2)),
            borders,
            np.zeros((3, len(borders) + 1)),
        )
        self._ends: tuple[float, float] | None = None

    def add(self, scores: Any, labels: Any, places: Any, weights: Any) -> None:
        """Adds the next chunk.

        Args:
            scores: float64 `[N]`, N > 0, ascending, none below those added before.
            labels: bool `[N]`.
            places: int32 `[N]`, where in `weights` those of each impression's group are.
            weights: uint8 `[G, W]`.
        """
        first = float(scores[0]) if self._ends is None else self._ends[0]
        self._ends = first, float(scores[-1])
        _sweep(scores, labels, places, weights, self._sums, self._curve)

    def finish(self) -> Swept:
        """Returns the sums of all chunks added, of which there must be one at least."""
        assert self._ends is not None
        _close(self._sums, self._curve)
        sums, points = self._sums, int(self._sums.counts[_ROC_POINTS])
        roc = self._curve.roc[:, :points]
        return Swept(*self._ends, sums.wins2, sums.positives, sums.negatives, roc, self._curve.cells)


@inlined_kernel
def _add_recent(sums: Any) -> None:
    """Adds the recent negatives to the others."""
    recent, negatives = sums.recent, sums.negatives
    for column in range(recent.shape[0]):
        negatives[column] += recent[column]
    for column in range(recent.shape[0]):
        recent[column] = 0
    sums.counts[_IN_16_BITS] = 0


@kernel
def _close(sums: Any, curve: Any) -> None:
    """Counts the pairs of the open score with those below and among themselves."""
    counts = sums.counts
    _add_recent(sums)
    if counts[_IS_OPEN] == 0:
        return
    wins2, negatives, positives = sums.wins2, sums.negatives, sums.positives
    open_positives, open_negatives = sums.open_positives, sums.open_negatives
    # Loops of few arrays each: LLVM gives up on proving more of them apart, and so on vectors.
    for column in range(wins2.shape[0]):
        wins2[column] += open_positives[column] * (2.0 * negatives[column] + open_negatives[column])
    for column in range(wins2.shape[0]):
        negatives[column] += open_negatives[column]
    for column in range(wins2.shape[0]):
        positives[column] += open_positives[column]
    open_positives[:] = 0.0
    open_negatives[:] = 0.0
    _count(counts[_OPEN], counts[_OPEN_POSITIVES], counts, curve)
    counts[_IS_OPEN] = counts[_OPEN] = counts[_OPEN_POSITIVES] = 0


@inlined_kernel
def _count(impressions: int, positives: int, counts: Any, curve: Any) -> None:
    """Counts the impressions of one score, all of them, and samples the ROC curve behind it.

    A point is kept where either count enters another stride: exact vertices of the curve.
    """
    counts[_CLOSED] += impressions
    counts[_CLOSED_POSITIVES] += positives
    positives = counts[_CLOSED_POSITIVES]
    negatives = counts[_CLOSED] - positives
    if negatives >= counts[_NEXT_NEGATIVES] or positives >= counts[_NEXT_POSITIVES]:
        counts[_NEXT_NEGATIVES] = (negatives // curve.strides[0] + 1) * curve.strides[0]
        counts[_NEXT_POSITIVES] = (positives // curve.strides[1] + 1) * curve.strides[1]
        point = counts[_ROC_POINTS]
        curve.roc[0, point] = positives
        curve.roc[1, point] = negatives
        counts[_ROC_POINTS] = point + 1


@inlined_kernel
def _fetch(impression: int, places: Any, weights: Any) -> None:
    """Has the weights of an impression to come fetched."""
    if impression < places.shape[0]:
        prefetch_span(weights, places[impression], weights.shape[1])


@inlined_kernel
def _add_negatives(first: int, end: int, places: Any, weights: Any, sums: Any) -> None:
    """Adds impressions `first` to `end`, which are negative, to the recent ones."""
    counts, recent = sums.counts, sums.recent
    for i in range(first, end):
        if counts[_IN_16_BITS] == _MOST_IN_16_BITS:
            _add_recent(sums)
        counts[_IN_16_BITS] += 1
        _fetch(i + _AHEAD, places, weights)
        own = weights[places[i]]
        for column in range(recent.shape[0]):
            recent[column] = np.uint16(recent[column] + own[column])


@inlined_kernel
def _add_to_open(first: int, end: int, labels: Any, places: Any, weights: Any, sums: Any) -> None:
    """Adds impressions `first` to `end` to the open score."""
    open_positives, open_negatives = sums.open_positives, sums.open_negatives
    for i in range(first, end):
        _fetch(i + _AHEAD, places, weights)
        own = weights[places[i]]
        summed = open_positives if labels[i] else open_negatives
        for column in range(summed.shape[0]):
            summed[column] += own[column]


@kernel
def _sweep(scores: Any, labels: Any, places: Any, weights: Any, sums: Any, curve: Any) -> None:
    """Adds a chunk, see `SortedPass.add`."""
    counts, size = sums.counts, scores.shape[0]
    cell = counts[_CELL]
    i = 0
    while i < size:
        score = scores[i]
        end, positives = i, 0
        while end < size and scores[end] == score:
            positives += labels[end]
            end += 1
        while cell < curve.borders.shape[0] and score >= curve.borders[cell]:
            cell += 1
        curve.cells[0, cell] += end - i
        curve.cells[1, cell] += positives
        curve.cells[2, cell] += score * (end - i)
        if counts[_IS_OPEN] == 1 and score != sums.open_score[0]:
            _close(sums, curve)
        # The chunk's last score may go on in the next one.
        if counts[_IS_OPEN] == 0 and positives == 0 and end < size:
            _add_negatives(i, end, places, weights, sums)
            _count(end - i, 0, counts, curve)
        else:
            _add_to_open(i, end, labels, places, weights, sums)
            counts[_IS_OPEN] = 1
            counts[_OPEN] += end - i
            counts[_OPEN_POSITIVES] += positives
            sums.open_score[0] = score
        i = end
    counts[_CELL] = cell
