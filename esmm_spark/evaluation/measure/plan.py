"""How the work is shared out: which task reads what, and which part a row goes to. Pure arithmetic.

Numbers of parts follow from numbers of rows alone, not from the machine, so that sums are made in one order
wherever they are made.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

# A part of so many rows takes a core about a second, and some 60 MB.
_ROWS_PER_PART = 1 << 20
_LEAST_ROWS_PER_PART = 1 << 18
_PARTS_OF_FEW_ROWS = 8
MOST_PARTS = 1 << 15

_HALF = np.uint64(32)


class Span(NamedTuple):
    """A row group of a Parquet file.

    Attributes:
        uri: of the file, not relative.
        row_group: its number in the file.
        num_rows: in it.
    """

    uri: str
    row_group: int
    num_rows: int


def num_parts(num_rows: float) -> int:
    """Returns how many parts rows are shared out to: one of few rows, eight of two million or more.

    Further on each part has a million rows, until there are MOST_PARTS.
    """
    few = min(int(num_rows) // _LEAST_ROWS_PER_PART, _PARTS_OF_FEW_ROWS)
    return min(max(1, few, int(num_rows) // _ROWS_PER_PART), MOST_PARTS)


def share_out(spans: Sequence[Span], shares: int) -> list[list[Span]]:
    """Returns what each task reads: every span once, in order, about as many rows per task.

    Args:
        spans: what there is.
        shares: the number of tasks, at most.

    Worked example: spans of 4, 4, 4 and 12 rows make 2 shares: 4, 4, 4 and 12.
    """
    total = sum(span.num_rows for span in spans)
    found: list[list[Span]] = [[] for _ in range(shares)]
    for span, end in zip(spans, accumulate(span.num_rows for span in spans), strict=True):
        # The share that the span's middle row falls to; twice the middle, to stay whole.
        middle = 2 * end - span.num_rows
        found[min(middle * shares // max(1, 2 * total), shares - 1)].append(span)
    return [share for share in found if share]


def parts_by_hash(hashes: Any, parts: int) -> Any:
    """Returns int64 [N], the part of each hash uint64 [N]: a range of hashes, ascending with them."""
    return ((hashes >> _HALF) * np.uint64(parts) >> _HALF).astype(np.int64)


def parts_by_score(scores: Any, splitters: Any) -> Any:
    """Returns int64 [N], the part of each score: a range of scores, ascending with them.

    Args:
        scores: float [N].
        splitters: float64 [P - 1], ascending, the least score of each part but the first.
    """
    return np.searchsorted(splitters, scores, side="right")


def splitters_of(sample: Any, parts: int) -> Any:
    """Returns float64 [at most parts - 1], distinct: quantiles of sampled scores, the parts' least ones.

    Any splitters give the same results; these give parts of about one size.
    """
    if parts < 2 or len(sample) == 0:
        return np.empty(0)
    ordered = np.sort(np.asarray(sample, dtype=np.float64))
    return np.unique(ordered[np.arange(1, parts) * len(ordered) // parts])
