"""A hash set that detects impression ids under several group keys, by hashes of 8 bytes each."""

import numpy as np

from esmm_spark.logs.compiling import kernel
from esmm_spark.runtime.arrays import Int64s
from esmm_spark.runtime.hash_kernels import fibonacci_slot, find_slot, floor_log2

_MIN_SLOTS = 1 << 12
_SEVERAL_KEYS = -1
# What stands in a free slot. An id that has this hash is taken for one under several keys.
_FREE = -0x8000_0000_0000_0000


class IdTable:
    """The ids seen so far, with the key of each, until one is seen under another key.

    Attributes:
        has_several_keys: whether an id was seen under several keys, or two ids have one hash.
    """

    def __init__(self) -> None:
        self.has_several_keys = False
        self._num_ids = 0
        self._ids = np.full(_MIN_SLOTS, _FREE, dtype=np.int64)
        self._keys = np.zeros(_MIN_SLOTS, dtype=np.int64)

    def add(self, pairs: Int64s) -> None:
        """Adds ids: int64 [n, 2], hashes of the id and of its key."""
        if self.has_several_keys:
            return
        if 2 * (self._num_ids + len(pairs)) > len(self._ids):
            used = self._ids != _FREE
            known = np.stack([self._ids[used], self._keys[used]], axis=1)
            num_slots = 1 << (4 * (len(known) + len(pairs))).bit_length()
            self._ids = np.full(num_slots, _FREE, dtype=np.int64)
            self._keys = np.zeros(num_slots, dtype=np.int64)
            add_ids(known, self._ids, self._keys)
        added = add_ids(np.array(pairs), self._ids, self._keys)
        self._num_ids += max(added, 0)
        self.has_several_keys = added == _SEVERAL_KEYS


@kernel
def add_ids(pairs: Int64s, ids: Int64s, keys: Int64s) -> int:
    """Returns how many ids are new, or _SEVERAL_KEYS.

    Args:
        pairs: int64 [n, 2], hashes of ids and of their keys.
        ids: int64 [power of two], hash table of `hash_kernels`, output.
        keys: the key's hash beside each id's, output.
    """
    bits, num_added = floor_log2(ids.shape[0]), 0
    for pair in range(pairs.shape[0]):
        id_hash, key_hash = pairs[pair, 0], pairs[pair, 1]
        if id_hash == _FREE:
            return _SEVERAL_KEYS
        slot = find_slot(ids, id_hash, _FREE, fibonacci_slot(id_hash, bits))
        if ids[slot] == id_hash:
            if keys[slot] != key_hash:
                return _SEVERAL_KEYS
            continue
        ids[slot], keys[slot] = id_hash, key_hash
        num_added += 1
    return num_added
