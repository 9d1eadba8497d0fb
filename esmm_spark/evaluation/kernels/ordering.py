"""A radix sort of scores or hashes, whose scratch arrays may lie in files."""

from typing import Any

import numpy as np

from esmm_spark.evaluation.kernels.compiling import kernel
from esmm_spark.evaluation.kernels.scratch import empty

_MOST_BITS = 11  # of a digit: 2,048 write streams stay in the cache


def sorted_order(keys: Any) -> Any:
    """Returns the places [N] of `keys` in ascending order, equal keys in their order: a stable argsort.

    Digits that all keys share are skipped: scores of one range, which float32 has drawn, need 3 passes.

    Args:
        keys: [N] uint32, uint64, int64, or float32 or float64 in [0, 1], whose bits ascend as they do. int64
            are sorted as if they were uint64.
    """
    size = len(keys)
    kind = np.dtype(f"u{keys.dtype.itemsize}")
    places = np.dtype(np.int32 if size < 1 << 31 else np.int64)
    order = empty(size, places)
    _count_up(order)
    if size < 2:
        return order
    keys = keys.view(kind)
    varying = int(_varying_bits(keys))
    if varying == 0:
        return order
    low, high = (varying & -varying).bit_length() - 1, varying.bit_length()
    passes = -(-(high - low) // _MOST_BITS)
    bits = -(-(high - low) // passes)
    source = keys
    buffers = [empty(size, kind) for _ in range(min(2, passes))]
    spare = empty(size, places)
    counts = np.empty(1 << bits, dtype=np.int64)
    for number in range(passes):
        target = buffers[number % len(buffers)]
        shift, mask = kind.type(low + number * bits), kind.type((1 << bits) - 1)
        _sort_by_digit((source, order), (target, spare), shift, mask, counts)
        source, order, spare = target, spare, order
    return order


@kernel
def _count_up(order: Any) -> None:
    for i in range(order.shape[0]):
        order[i] = i


@kernel
def _varying_bits(keys: Any) -> Any:
    """Returns the bits in which any two keys differ."""
    first = keys[0]
    varying = first ^ first
    for i in range(keys.shape[0]):
        varying |= keys[i] ^ first
    return varying


@kernel
def _sort_by_digit(source: Any, target: Any, shift: Any, mask: Any, counts: Any) -> None:
    """Moves keys and places from `source` to `target`, sorted by the bits `mask` above `shift`."""
    keys, places = source
    target_keys, target_places = target
    counts[:] = 0
    for i in range(keys.shape[0]):
        counts[np.int64((keys[i] >> shift) & mask)] += 1
    before = 0
    for digit in range(counts.shape[0]):
        count = counts[digit]
        counts[digit] = before
        before += count
    for i in range(keys.shape[0]):
        own = np.int64((keys[i] >> shift) & mask)
        place = counts[own]
        counts[own] = place + 1
        target_keys[place] = keys[i]
        target_places[place] = places[i]
