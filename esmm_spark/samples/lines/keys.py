"""Group keys of raw lines and their hashes: the shuffle key of each line."""

from typing import NamedTuple

import numpy as np

from esmm_spark.contracts.features import HASH_SEED
from esmm_spark.logs.aliccp import find_comma, find_impression_key
from esmm_spark.logs.compiling import allocating_kernel, kernel
from esmm_spark.logs.lines import CONTEXT, Lines
from esmm_spark.runtime.arrays import Bytes, Int64s, Words
from esmm_spark.runtime.byte_kernels import same_bytes
from esmm_spark.runtime.xxh64 import xxh64

# The least place: it sorts before all others.
LOWEST = -0x8000_0000_0000_0000

_SEED = np.uint64(HASH_SEED)
_ALL_BUT_SIGN = 0x7FFF_FFFF_FFFF_FFFF


class LineKeys(NamedTuple):
    """The group keys of lines, and their hashes.

    Attributes:
        key_starts, key_ends: int64 [lines], where each line's key lies.
        key_hash: int64 [lines].
        place: int64 [lines], the order of groups: the key's hash, negative if the group is held out.
        id_hash: int64 [lines], of impressions.
    """

    key_starts: Int64s
    key_ends: Int64s
    key_hash: Int64s
    place: Int64s
    id_hash: Int64s


@allocating_kernel
def hash_line_keys(lines: Lines, num_labels: int, prefix: Bytes, threshold: int, steps: int) -> LineKeys:
    """Returns the group keys of lines and their hashes; the other arguments as in `Packing`."""
    num_lines = lines.starts.shape[0]
    line_keys = LineKeys(
        np.empty(num_lines, dtype=np.int64),
        np.empty(num_lines, dtype=np.int64),
        np.empty(num_lines, dtype=np.int64),
        np.empty(num_lines, dtype=np.int64),
        np.zeros(num_lines, dtype=np.int64),
    )
    longest = (lines.ends - lines.starts).max() + prefix.shape[0]
    words = np.zeros(longest // 8 + 2, dtype=np.uint64)
    _hash_line_keys(lines, num_labels, prefix, threshold, steps, line_keys, words)
    return line_keys


@kernel
def _hash_line_keys(
    lines: Lines, num_labels: int, prefix: Bytes, threshold: int, steps: int, out: LineKeys, words: Words
) -> None:
    data, nothing, text = lines.data, prefix[:0], words.view(np.uint8)
    for line in range(lines.starts.shape[0]):
        start, end = lines.starts[line], lines.ends[line]
        if lines.kind[line] == CONTEXT:
            key_start, key_end = start, find_comma(data, start, end)
        else:
            key_start, key_end = find_impression_key(data, start, end, num_labels)
            id_end = find_comma(data, start, end)
            out.id_hash[line] = _hash(nothing, data, start, id_end, words, text)
        out.key_starts[line], out.key_ends[line] = key_start, key_end
        before = line - 1
        if line > 0 and same_bytes(
            data, key_start, key_end, data, out.key_starts[before], out.key_ends[before]
        ):
            out.key_hash[line], out.place[line] = out.key_hash[before], out.place[before]
            continue
        key_hash = _hash(nothing, data, key_start, key_end, words, text)
        place = key_hash & _ALL_BUT_SIGN
        if threshold > 0 and _hash(prefix, data, key_start, key_end, words, text) % steps < threshold:
            place |= LOWEST
        out.key_hash[line], out.place[line] = key_hash, place


@kernel
def _hash(prefix: Bytes, data: Bytes, start: int, end: int, words: Words, text: Bytes) -> int:
    """Returns the signed XXH64 of `prefix` and `data[start:end]`."""
    length = prefix.shape[0]
    for i in range(length):
        text[i] = prefix[i]
    for i in range(end - start):
        text[length + i] = data[start + i]
    return int(np.int64(xxh64(words, text, 0, length + end - start, _SEED)))
