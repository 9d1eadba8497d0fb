"""Comparison of bytes: the one loop over two ranges of bytes of all kernels."""

from esmm_spark.runtime.arrays import Bytes
from esmm_spark.runtime.compiling import Function, compiled


def _inlined(function: Function) -> Function:
    return compiled(function, ("runtime/byte_kernels.py",), _nrt=False, inline="always")


@_inlined
def _common_length(data: Bytes, start: int, other: Bytes, other_start: int, most: int) -> int:
    """Returns how many bytes are alike from `start` and `other_start` on, at most `most`."""
    length = 0
    while length < most and data[start + length] == other[other_start + length]:
        length += 1
    return length


@_inlined
def same_bytes(data: Bytes, start: int, end: int, other: Bytes, other_start: int, other_end: int) -> bool:
    """Returns whether `data[start:end]` and `other[other_start:other_end]` are the same."""
    length = end - start
    return (
        length == other_end - other_start
        and _common_length(data, start, other, other_start, length) == length
    )


@_inlined
def compare_bytes(data: Bytes, start: int, end: int, other: Bytes, other_start: int, other_end: int) -> int:
    """Returns a number below, equal to or above 0: how `data[start:end]` compares to the other bytes.

    The first byte that differs decides; of two where one begins with the other, the shorter is the lesser.
    """
    shorter = min(end - start, other_end - other_start)
    length = _common_length(data, start, other, other_start, shorter)
    if length == shorter:
        return (end - start) - (other_end - other_start)
    # Not the difference of the bytes: numba's is unsigned.
    return -1 if data[start + length] < other[other_start + length] else 1
