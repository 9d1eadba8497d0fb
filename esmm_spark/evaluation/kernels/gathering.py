"""Impressions in the order of their scores, and the range that each score is in."""

from typing import Any

import numpy as np

from esmm_spark.evaluation.kernels.compiling import inlined_kernel, kernel
from esmm_spark.runtime.prefetching import prefetch

# Impressions between the fetch of a column's value and its use.
_AHEAD = 16
# Scores that are held against one splitter after the other, and with more splitters a search is faster.
_AT_ONCE, _MOST_COUNTED = 1 << 11, 128


@inlined_kernel
def _code_of(codes: Any, shift: int) -> Any:
    """Returns a target's code of an impression's: 0 where it doesn't count, else 1 + label."""
    return (np.int64(codes) >> shift) & 3


@kernel
def count_target(codes: Any, shift: int) -> tuple[int, int]:
    """Returns how many impressions count for a target, and how many of them have label 1."""
    impressions, positives = 0, 0
    for i in range(codes.shape[0]):
        code = _code_of(codes[i], shift)
        impressions += code != 0
        positives += code == 2
    return impressions, positives


@kernel
def gather_target(places: Any, columns: Any, shift: Any, taken: Any) -> int:
    """Copies the impressions at `places` that count for a target, in that order; returns how many they are.

    Args:
        places: int [M].
        columns: of all impressions: scores, float [N], their groups' hashes, int64 [N], and their codes,
            uint8 [N]: two bits per target, 0 where they don't count, else 1 + label.
        shift: of the target's bits.
        taken: where to: scores, float64 [M], groups, int64 [M], and labels, bool [M].
    """
    scores, groups, codes = columns
    own_scores, own_groups, own_labels = taken
    count = 0
    for i in range(places.shape[0]):
        if i + _AHEAD < places.shape[0]:
            prefetch(scores, places[i + _AHEAD], 0)
            prefetch(groups, places[i + _AHEAD], 0)
            prefetch(codes, places[i + _AHEAD], 0)
        place = places[i]
        code = _code_of(codes[place], shift)
        if code != 0:
            own_scores[count] = scores[place]
            own_groups[count] = groups[place]
            own_labels[count] = code == 2
            count += 1
    return count


def ranges_of(scores: Any, splitters: Any) -> Any:
    """Returns uint16 [N], how many of the splitters each score reaches.

    Args:
        scores: float [N].
        splitters: float64 [S], S < 65,536, ascending.
    """
    if len(splitters) > _MOST_COUNTED:
        return np.searchsorted(splitters, scores, side="right").astype(np.uint16)
    found = np.zeros(len(scores), dtype=np.uint16)
    _count_reached(scores, splitters, found)
    return found


@kernel
def _count_reached(scores: Any, splitters: Any, found: Any) -> None:
    """Adds to `found` 1 for each splitter that a score reaches: a loop that vectorises."""
    for start in range(0, scores.shape[0], _AT_ONCE):
        own, own_found = scores[start : start + _AT_ONCE], found[start : start + _AT_ONCE]
        for splitter in splitters:
            for i in range(own.shape[0]):
                own_found[i] += np.uint16(own[i] >= splitter)
