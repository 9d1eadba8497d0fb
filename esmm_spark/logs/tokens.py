r"""The tokens of a raw line: `field \x02 value \x03 weight`, joined by \x01.

Worked example: `205\x0234\x031.0\x01853\x0277\x030.69315` holds two tokens, value 34 of field 205 with weight
1 and value 77 of field 853 with weight 0.69315.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR, VALUE_SEPARATOR, WEIGHT_SEPARATOR
from esmm_spark.logs.compiling import inlined_kernel, kernel
from esmm_spark.logs.decimals import parse_float32
from esmm_spark.logs.reasons import ACCEPTED, BAD_TOKEN
from esmm_spark.runtime.arrays import Bytes, Float32s, Int32s, Int64s
from esmm_spark.runtime.byte_kernels import same_bytes
from esmm_spark.runtime.hash_kernels import find_slot

_TOKEN_BYTE, _VALUE_BYTE, _WEIGHT_BYTE = map(ord, (TOKEN_SEPARATOR, VALUE_SEPARATOR, WEIGHT_SEPARATOR))
# The shortest token that parses, e.g. "f\x02v\x03w".
MIN_TOKEN_BYTES = 5
UNKNOWN_FIELD = -1
_FREE = -1

CONTEXT_LEVEL, IMPRESSION_LEVEL = 0, 1

_FNV_OFFSET, _FNV_PRIME, _FNV_MASK = 2166136261, 16777619, 0xFFFFFFFF


class FieldNames(NamedTuple):
    """The fields of a spec, findable by the bytes of their names. F fields, in the order of the spec.

    Attributes:
        hashes: int64 [power of two], hash table of `hash_kernels`: the hash of a name, or -1.
        slots: int32 [power of two], the field whose name has the hash at the same place.
        name_bytes: uint8, all names.
        name_offsets: int64 [F + 1], where each name begins in `name_bytes`.
        level: int32 [F], CONTEXT_LEVEL or IMPRESSION_LEVEL.
    """

    hashes: Int64s
    slots: Int32s
    name_bytes: Bytes
    name_offsets: Int64s
    level: Int32s


class TokenBuffers(NamedTuple):
    """The tokens of one line whose fields are in the spec, in the line's order. Reused from line to line.

    Attributes:
        field: int32, index in the spec's fields.
        value_start: int64, the value's first byte in the raw bytes.
        value_end: int64, the byte after the value.
        weight: float32.
        scratch: uint8, at least as long as a weight's text.
    """

    field: Int32s
    value_start: Int64s
    value_end: Int64s
    weight: Float32s
    scratch: Bytes


def field_names(spec: FeatureSpec) -> FieldNames:
    """Returns the field names of `spec` in the form that `scan_tokens` reads."""
    names = [field.name.encode("utf-8") for field in spec.fields]
    num_slots = 8
    while num_slots < 4 * len(names):
        num_slots *= 2
    hashes = np.full(num_slots, _FREE, dtype=np.int64)
    slots = np.full(num_slots, UNKNOWN_FIELD, dtype=np.int32)
    for field, name in enumerate(names):
        # A field behind another whose name has the same hash: `_find_field` goes on to it.
        slot = _hash_name(name) & (num_slots - 1)
        while hashes[slot] != _FREE:
            slot = (slot + 1) & (num_slots - 1)
        hashes[slot], slots[slot] = _hash_name(name), field
    levels = [CONTEXT_LEVEL if field.level == "context" else IMPRESSION_LEVEL for field in spec.fields]
    return FieldNames(
        hashes=hashes,
        slots=slots,
        name_bytes=np.frombuffer(b"".join(names), dtype=np.uint8),
        name_offsets=np.cumsum([0, *map(len, names)], dtype=np.int64),
        level=np.array(levels, dtype=np.int32),
    )


def token_buffers(max_line_bytes: int) -> TokenBuffers:
    """Returns buffers that hold the tokens of any line of at most `max_line_bytes`."""
    capacity = max_line_bytes // MIN_TOKEN_BYTES + 1
    return TokenBuffers(
        field=np.empty(capacity, dtype=np.int32),
        value_start=np.empty(capacity, dtype=np.int64),
        value_end=np.empty(capacity, dtype=np.int64),
        weight=np.empty(capacity, dtype=np.float32),
        scratch=np.empty(max_line_bytes + 1, dtype=np.uint8),
    )


@kernel
def scan_tokens(
    data: Bytes, start: int, end: int, names: FieldNames, level: int, tokens: TokenBuffers
) -> tuple[int, int, int]:
    """Fills `tokens` from `data[start:end]`; returns (reason, tokens in the line, tokens filled in).

    Tokens of fields that the spec doesn't have at this level are counted, not filled in. Every token must
    parse, those too. The counts mean nothing unless the reason is ACCEPTED.

    Args:
        data: uint8, the raw bytes.
        start: the first byte of the line's tokens.
        end: the byte after the last. Equal to `start` where the line has none.
        names: the fields of the spec.
        level: CONTEXT_LEVEL or IMPRESSION_LEVEL.
        tokens: output, large enough for the line.
    """
    num_tokens, num_known = 0, 0
    if start == end:
        return ACCEPTED, 0, 0
    position = start
    while True:
        name_start, name_hash = position, _FNV_OFFSET
        while position < end and (data[position] > _WEIGHT_BYTE or data[position] == 0):
            name_hash = ((name_hash ^ int(data[position])) * _FNV_PRIME) & _FNV_MASK
            position += 1
        if position == name_start or position == end or data[position] != _VALUE_BYTE:
            return BAD_TOKEN, 0, 0
        name_end, value_start = position, position + 1
        position = _skip_part(data, value_start, end)
        if position == value_start or position == end or data[position] != _WEIGHT_BYTE:
            return BAD_TOKEN, 0, 0
        value_end, weight_start = position, position + 1
        position = _skip_part(data, weight_start, end)
        is_number, weight = parse_float32(data, weight_start, position, tokens.scratch)
        if not is_number or (position < end and data[position] != _TOKEN_BYTE):
            return BAD_TOKEN, 0, 0

        field = _find_field(data, name_start, name_end, name_hash, names)
        if field != UNKNOWN_FIELD and names.level[field] == level:
            tokens.field[num_known] = field
            tokens.value_start[num_known] = value_start
            tokens.value_end[num_known] = value_end
            tokens.weight[num_known] = weight
            num_known += 1
        num_tokens += 1
        if position == end:
            return ACCEPTED, num_tokens, num_known
        position += 1


@inlined_kernel
def _skip_part(data: Bytes, position: int, end: int) -> int:
    """Returns the position of the next separator of any kind, or `end`."""
    while position < end and (data[position] > _WEIGHT_BYTE or data[position] == 0):
        position += 1
    return position


@inlined_kernel
def _find_field(data: Bytes, start: int, end: int, name_hash: int, names: FieldNames) -> int:
    """Returns the field whose name is `data[start:end]`, or UNKNOWN_FIELD."""
    mask = names.hashes.shape[0] - 1
    slot = find_slot(names.hashes, name_hash, _FREE, name_hash & mask)
    while names.hashes[slot] != _FREE:
        field = names.slots[slot]
        name_start, name_end = names.name_offsets[field], names.name_offsets[field + 1]
        if same_bytes(data, start, end, names.name_bytes, name_start, name_end):
            return int(field)
        slot = find_slot(names.hashes, name_hash, _FREE, (slot + 1) & mask)
    return UNKNOWN_FIELD


def _hash_name(name: Sequence[int]) -> int:
    """Returns FNV-1a of the bytes, as `scan_tokens` computes it on its way through a name."""
    name_hash = _FNV_OFFSET
    for byte in name:
        name_hash = ((name_hash ^ byte) * _FNV_PRIME) & _FNV_MASK
    return name_hash
