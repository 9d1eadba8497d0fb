"""Merge join of two sides sorted by impression id, with counts of missing and repeated ids.

An id is 128 bits of hash: two of a billion ids are equal by chance in 1 of 10^20 evaluations.
"""

from typing import Any, NamedTuple

import numpy as np

from esmm_spark.evaluation.kernels.compiling import kernel
from esmm_spark.evaluation.kernels.ordering import sorted_order
from esmm_spark.evaluation.kernels.scratch import empty

NOT_FOUND = -1


class Matched(NamedTuple):
    """One side's ids merge-joined with another's.

    Attributes:
        places: `[N]` the place among the others of each of ours, NOT_FOUND where it isn't there.
        missing: ours that aren't among the others, repetitions counted once.
        surplus: theirs that aren't among ours, likewise.
        duplicates: ids that come more than once among the others and are among ours.
        repetitions: how often those come, in all.
        surplus_duplicates: ids that come more than once among the others and not among ours.
        surplus_repetitions: how often those come, in all.
    """

    places: Any
    missing: int
    surplus: int
    duplicates: int
    repetitions: int
    surplus_duplicates: int
    surplus_repetitions: int


def id_order(first: Any, second: Any) -> Any:
    """Returns the places of ids in ascending order: uint64 [N] `first`, where equal, by `second`."""
    order = sorted_order(first)
    _sort_runs(first, second, order)
    return order


def match(ours: tuple[Any, Any], theirs: tuple[Any, Any]) -> Matched:
    """Returns where our ids are among theirs; both are two hashes uint64, sorted by the first, the second."""
    places = empty(len(ours[0]), np.int64)
    counts = np.zeros(6, dtype=np.int64)
    _merge(ours, theirs, places, counts)
    return Matched(places, *counts.tolist())


def count_repeated(ids: tuple[Any, Any]) -> tuple[int, int]:
    """Returns how many of sorted ids come more than once, and how often those come."""
    if len(ids[0]) == 0:
        return 0, 0
    differs = (ids[0][1:] != ids[0][:-1]) | (ids[1][1:] != ids[1][:-1])
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], differs, [True]])))
    repeated = lengths[lengths > 1]
    return len(repeated), int(repeated.sum())


@kernel
def _sort_runs(first: Any, second: Any, order: Any) -> None:
    """Sorts places whose `first` is equal by their `second`, by insertion: there are hardly any."""
    for i in range(1, order.shape[0]):
        own, place = order[i], i
        while place > 0 and first[order[place - 1]] == first[own] and second[order[place - 1]] > second[own]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = own


@kernel
def _run_end(ids: Any, start: int) -> int:
    """Returns the end of the equal ids that begin at `start`."""
    end = start + 1
    while end < ids[0].shape[0] and ids[0][end] == ids[0][start] and ids[1][end] == ids[1][start]:
        end += 1
    return end


@kernel
def _merge(ours: Any, theirs: Any, places: Any, counts: Any) -> None:
    """Fills in `places` and the `counts` of Matched, in its order."""
    i, j = 0, 0
    num_ours, num_theirs = ours[0].shape[0], theirs[0].shape[0]
    while i < num_ours or j < num_theirs:
        order = 0  # below 0: only we have the next id; above: only they
        if j == num_theirs:
            order = -1
        elif i == num_ours:
            order = 1
        elif ours[0][i] != theirs[0][j]:
            order = -1 if ours[0][i] < theirs[0][j] else 1
        elif ours[1][i] != theirs[1][j]:
            order = -1 if ours[1][i] < theirs[1][j] else 1
        found = j if order == 0 else NOT_FOUND
        if order <= 0:
            end = _run_end(ours, i)
            places[i:end] = found
            counts[0] += order != 0
            i = end
        if order >= 0:
            end = _run_end(theirs, j)
            counts[1] += order != 0
            kind = 2 if order == 0 else 4
            if end - j > 1:
                counts[kind] += 1
                counts[kind + 1] += end - j
            j = end
