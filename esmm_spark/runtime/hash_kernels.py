"""Integer hashing and open addressing: the one hash table of all kernels.

A hash table is an array `keys` whose size is a power of two, with a value that is no key in its free slots,
of which there is at least one. A key lies in the first slot from its hash on, by linear probing, in which it
or nothing was when it came. What belongs to a key lies at the same place of other arrays.

    slot = find_slot(keys, key, FREE, fibonacci_slot(key, bits))
    if keys[slot] == FREE:
        keys[slot] = key
"""

from typing import Any

import numpy as np

from esmm_spark.runtime.compiling import compiled
from esmm_spark.runtime.splitmix import GOLDEN

_FILES = ("runtime/hash_kernels.py", "runtime/splitmix.py")


def _inlined(function: Any) -> Any:
    return compiled(function, _FILES, _nrt=False, inline="always")


@_inlined
def fibonacci_hash(key: Any) -> Any:
    """Returns the product of an integer with 2^64 over the golden ratio, uint64: its top bits are well mixed.

    Source: Knuth, The Art of Computer Programming 3, 6.4, "Fibonacci hashing".
    """
    return np.uint64(key) * GOLDEN


@_inlined
def fibonacci_slot(key: Any, bits: int) -> Any:
    """Returns the slot, of 2^bits with bits >= 1, where the search for an integer key begins."""
    return np.int64(np.uint64(key) * GOLDEN >> np.uint64(64 - bits))


@_inlined
def find_slot(keys: Any, key: Any, free: Any, start: Any) -> Any:
    """Returns the slot of `keys` that holds `key`, or the free one where it belongs, by linear probing.

    Args:
        keys: [power of two] integers, at least one of them free.
        key: another number than `free`.
        free: what free slots hold.
        start: the slot where the search begins, a function of the key.
    """
    slot = start
    while keys[slot] != key and keys[slot] != free:
        slot = (slot + 1) & (keys.shape[0] - 1)
    return slot


@_inlined
def floor_log2(size: int) -> int:
    """Returns the largest number of bits with 2^bits <= `size`; 0 for 0."""
    bits = 0
    while size >> bits > 1:
        bits += 1
    return bits
