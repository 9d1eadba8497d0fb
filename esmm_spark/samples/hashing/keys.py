"""Hashes of group keys: the group_hash of parts, and what decides on which side of a split a group is."""

import numpy as np

from esmm_spark.contracts.features import HASH_SEED
from esmm_spark.logs.compiling import allocating_kernel
from esmm_spark.runtime.arrays import Bytes, Int32s, Int64s
from esmm_spark.runtime.xxh64 import xxh64

_SEED = np.uint64(HASH_SEED)
_HASH_SIGN, _ZERO = b"#0"
_MAX_DIGITS = 20


@allocating_kernel
def hash_parts(keys: Bytes, offsets: Int64s, part_numbers: Int64s) -> Int64s:
    """Returns int64 [P], the group_hash of each part: the signed XXH64 of `<key>#<part number>`.

    Worked example: part 0 of key "k7" has group_hash xxhash64("k7#0").

    Args:
        keys: uint8, the keys.
        offsets: int64 [P + 1], where each begins.
        part_numbers: int64 [P].
    """
    num_parts = part_numbers.shape[0]
    hashes = np.empty(num_parts, dtype=np.int64)
    words = np.zeros((_longest(offsets) + _MAX_DIGITS) // 8 + 2, dtype=np.uint64)
    text = words.view(np.uint8)
    for part in range(num_parts):
        length = offsets[part + 1] - offsets[part]
        text[:length] = keys[offsets[part] : offsets[part + 1]]
        text[length] = _HASH_SIGN
        num_digits, rest = 1, part_numbers[part] // 10
        while rest > 0:
            num_digits += 1
            rest //= 10
        rest = part_numbers[part]
        for i in range(num_digits):
            text[length + num_digits - i] = _ZERO + rest % 10
            rest //= 10
        hashes[part] = np.int64(xxh64(words, text, 0, length + 1 + num_digits, _SEED))
    return hashes


@allocating_kernel
def hash_texts(prefix: Bytes, data: Bytes, offsets: Int32s) -> Int64s:
    """Returns int64 [texts], the signed XXH64 of `prefix` followed by `data[offsets[i]:offsets[i + 1]]`."""
    num_texts = offsets.shape[0] - 1
    hashes = np.empty(num_texts, dtype=np.int64)
    words = np.zeros((prefix.shape[0] + _longest(offsets)) // 8 + 1, dtype=np.uint64)
    text = words.view(np.uint8)
    text[: prefix.shape[0]] = prefix
    for i in range(num_texts):
        end = prefix.shape[0] + offsets[i + 1] - offsets[i]
        text[prefix.shape[0] : end] = data[offsets[i] : offsets[i + 1]]
        hashes[i] = np.int64(xxh64(words, text, 0, end, _SEED))
    return hashes


@allocating_kernel
def _longest(offsets: Int32s | Int64s) -> int:
    longest = 0
    for i in range(offsets.shape[0] - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    return int(longest)
