"""Partitions items of known sizes into balanced, contiguous shares, one per task. Pure arithmetic."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

_T = TypeVar("_T")


def balanced_shares(items: Sequence[_T], size: Callable[[_T], int], tasks: int) -> list[list[_T]]:
    """Returns what each task gets: every item once, in order, about as much per task; nobody gets nothing.

    Args:
        items: e.g. the row groups of a partition's files.
        size: of an item, not below 0, e.g. its impressions.
        tasks: their number, at most.

    Worked example: sizes of 4, 4, 4 and 12 make 2 shares: 4, 4, 4 and 12.
    """
    sizes = [size(item) for item in items]
    total = sum(sizes)
    shares: list[list[_T]] = [[] for _ in range(tasks)]
    for item, item_size, end in zip(items, sizes, accumulate(sizes), strict=True):
        # The share that the item's middle falls to; twice the middle, to stay whole.
        middle = 2 * end - item_size
        shares[min(middle * tasks // max(1, 2 * total), tasks - 1)].append(item)
    return [share for share in shares if share]
