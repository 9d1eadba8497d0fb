"""The AUC within each impression group: most groups are small, and have one label only."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esmm_spark.evaluation.kernels.compiling import inlined_kernel, kernel
from esmm_spark.evaluation.kernels.ordering import sorted_order

# A larger group is sorted by radix, and may be larger than memory.
_SMALL_GROUP = 256


class GroupAucs(NamedTuple):
    """The AUC of each group that has both labels.

    Attributes:
        auc: `[G]` float64, 0 where a group has one label only.
        impressions: `[G]` float64, those that count, 0 where a group has one label only.
    """

    auc: NDArray[np.float64]
    impressions: NDArray[np.float64]


def group_aucs(scores: Any, labels: Any, is_known: Any, starts: Any) -> GroupAucs:
    """Returns the AUCs of groups of any size.

    Args:
        scores: `[N]` float64, group by group.
        labels: `[N]` bool.
        is_known: `[N]` bool, whether an impression counts.
        starts: `[G]` int64, where each group begins.
    """
    found = GroupAucs(np.zeros(len(starts)), np.zeros(len(starts)))
    ends = np.append(starts[1:], len(scores))
    scratch = np.empty(_SMALL_GROUP), np.empty(_SMALL_GROUP, np.bool_)
    _small_groups((scores, labels, is_known), starts, ends, scratch, found)
    for group in np.flatnonzero(ends - starts > _SMALL_GROUP):
        span = slice(starts[group], ends[group])
        known = is_known[span]
        own, own_labels = scores[span][known], labels[span][known]
        positives = int(np.count_nonzero(own_labels))
        if 0 < positives < len(own):
            order = sorted_order(own)
            wins2 = _wins2(own[order], own_labels[order], len(own))
            found.auc[group] = wins2 / (2.0 * positives * (len(own) - positives))
            found.impressions[group] = len(own)
    return found


@inlined_kernel
def _wins2(scores: Any, labels: Any, size: int) -> Any:
    """Returns 2 x pairs won + pairs tied of the first `size` scores, which ascend."""
    wins2, below, i = 0, 0, 0
    while i < size:
        end, positives = i, 0
        while end < size and scores[end] == scores[i]:
            positives += labels[end]
            end += 1
        negatives = end - i - positives
        wins2 += positives * (2 * below + negatives)
        below += negatives
        i = end
    return wins2


@kernel
def _small_groups(columns: Any, starts: Any, ends: Any, scratch: Any, found: Any) -> None:
    """Fills in the AUCs of groups no larger than the scratch arrays, each sorted by insertion."""
    scores, labels, is_known = columns
    sorted_scores, sorted_labels = scratch
    auc, impressions = found
    for group in range(starts.shape[0]):
        start, end = starts[group], ends[group]
        if end - start > sorted_scores.shape[0]:
            continue
        size, positives = 0, 0
        for i in range(start, end):
            if is_known[i]:
                size += 1
                positives += labels[i]
        if positives == 0 or positives == size:
            continue
        size = 0
        for i in range(start, end):
            if is_known[i]:
                place = size
                while place > 0 and sorted_scores[place - 1] > scores[i]:
                    sorted_scores[place] = sorted_scores[place - 1]
                    sorted_labels[place] = sorted_labels[place - 1]
                    place -= 1
                sorted_scores[place], sorted_labels[place] = scores[i], labels[i]
                size += 1
        auc[group] = _wins2(sorted_scores, sorted_labels, size) / (2.0 * positives * (size - positives))
        impressions[group] = size
