"""Partitioning of impressions by ranges of score or of id hash. Pure arithmetic.

Numbers of parts follow from numbers of impressions alone, not from the machine, so that sums are made in one
order wherever they are made.
"""

from typing import Any, NamedTuple

import numpy as np

# A part of so many impressions takes a core about a second, and some 60 MB.
_IMPRESSIONS_PER_PART = 1 << 20
_LEAST_PER_PART = 1 << 18
_PARTS_OF_FEW = 8
MOST_PARTS = 1 << 15

_BITS_32 = np.uint64(32)


class Span(NamedTuple):
    """A row group of a Parquet file.

    Attributes:
        uri: of the file, not relative.
        row_group: its number in the file.
        num_impressions: in it.
    """

    uri: str
    row_group: int
    num_impressions: int


def num_parts(num_impressions: float) -> int:
    """Returns the number of parts for so many impressions: 1 for few, 8 from two million on.

    Further on each part has a million, until there are MOST_PARTS.
    """
    few = min(int(num_impressions) // _LEAST_PER_PART, _PARTS_OF_FEW)
    return min(max(1, few, int(num_impressions) // _IMPRESSIONS_PER_PART), MOST_PARTS)


def parts_by_hash(hashes: Any, parts: int) -> Any:
    """Returns int64 [N], the part of each hash uint64 [N]: a range of hashes, ascending with them."""
    return ((hashes >> _BITS_32) * np.uint64(parts) >> _BITS_32).astype(np.int64)


def splitters_of(sample: Any, parts: int) -> Any:
    """Returns float64 [at most parts - 1], distinct: quantiles of sampled scores, the parts' least ones.

    Any splitters give the same results; these give parts of about one size.
    """
    if parts < 2 or len(sample) == 0:
        return np.empty(0)
    ordered = np.sort(np.asarray(sample, dtype=np.float64))
    return np.unique(ordered[np.arange(1, parts) * len(ordered) // parts])
