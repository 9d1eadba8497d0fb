"""The order in which lines are grouped, by key, kind and bytes: its comparison and a merge sort."""

from esmm_spark.logs.compiling import kernel
from esmm_spark.logs.lines import Lines
from esmm_spark.runtime.arrays import Int64s
from esmm_spark.runtime.byte_kernels import compare_bytes


@kernel
def compare_lines(lines: Lines, key_starts: Int64s, key_ends: Int64s, line: int, other: int) -> int:
    """Returns a number below, equal to or above 0: how two lines compare by key, kind and bytes."""
    data = lines.data
    order = compare_bytes(data, key_starts[line], key_ends[line], data, key_starts[other], key_ends[other])
    if order != 0:
        return order
    if lines.kind[line] != lines.kind[other]:
        return int(lines.kind[line]) - int(lines.kind[other])
    return compare_bytes(
        data, lines.starts[line], lines.ends[line], data, lines.starts[other], lines.ends[other]
    )


@kernel
def sort_range(
    order: Int64s,
    first: int,
    last: int,
    lines: Lines,
    key_starts: Int64s,
    key_ends: Int64s,
    scratch: Int64s,
) -> None:
    """Sorts the lines `order[first:last]` as `compare_lines` says; `scratch` is as long as `order`.

    Bottom-up merge sort. Two runs that are in order already take one comparison instead of a merge.
    """
    width = 1
    while width < last - first:
        for left in range(first, last - width, 2 * width):
            middle, right = left + width, min(left + 2 * width, last)
            if compare_lines(lines, key_starts, key_ends, order[middle - 1], order[middle]) > 0:
                _merge(order, left, middle, right, lines, key_starts, key_ends, scratch)
        width *= 2


@kernel
def _merge(
    order: Int64s,
    left: int,
    middle: int,
    right: int,
    lines: Lines,
    key_starts: Int64s,
    key_ends: Int64s,
    scratch: Int64s,
) -> None:
    """Merges the sorted `order[left:middle]` and `order[middle:right]`."""
    for i in range(left, middle):
        scratch[i] = order[i]
    low, high = left, middle
    for place in range(left, right):
        if low == middle:
            return
        from_low = high == right or (
            compare_lines(lines, key_starts, key_ends, scratch[low], order[high]) <= 0
        )
        if from_low:
            order[place] = scratch[low]
            low += 1
        else:
            order[place] = order[high]
            high += 1
