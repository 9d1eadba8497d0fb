"""Values to arena rows: the one place where a value becomes a row, in preprocess and in score.

A value's hash is its XXH64, seed 42, read as a signed integer, as Spark does.
"""

from typing import NamedTuple

import numpy as np

from esmm_spark.contracts.features import HASH_SEED, FeatureSpec
from esmm_spark.contracts.fields.field_spec import RARE_BUCKET
from esmm_spark.logs.compiling import inlined_kernel
from esmm_spark.runtime.arrays import Bools, Bytes, Int64s, Words
from esmm_spark.runtime.xxh64 import xxh64

_SEED = np.uint64(HASH_SEED)
_NO_MAXIMUM = 2**62
_ZERO = ord("0")


class FieldTable(NamedTuple):
    """How the values of each field become arena rows. F fields, in the order of the spec.

    Attributes:
        words: uint64 [F * W], what gets hashed: W words a field, `<table>=` and then the value.
        text: uint8 [F * W * 8], the same memory.
        words_per_field: int64 [1], W.
        prefix_length: int64 [F], bytes of `<table>=`.
        first_row: int64 [F], the table's offset in the arena.
        num_buckets: int64 [F].
        weighted, multi: bool [F], as in the spec.
        max_length: int64 [F], as in the spec, or what no line reaches.
        position: int64 [F], the field's place among those of its level.
        counted: bool [F], whether the field has min_count > 1.
        numbered: bool [F], whether values are numbers of rows, which are not hashed.
        vocabulary: int64, the hashes that were seen often enough, field by field, ascending within a field.
        vocabulary_offsets: int64 [F + 1].
    """

    words: Words
    text: Bytes
    words_per_field: Int64s
    prefix_length: Int64s
    first_row: Int64s
    num_buckets: Int64s
    weighted: Bools
    multi: Bools
    max_length: Int64s
    position: Int64s
    counted: Bools
    numbered: Bools
    vocabulary: Int64s
    vocabulary_offsets: Int64s


def field_table(spec: FeatureSpec, max_value_bytes: int, frequent_hashes: dict[str, Int64s]) -> FieldTable:
    """Returns the table that hashes values of up to `max_value_bytes`.

    Args:
        spec: the feature spec.
        max_value_bytes: the longest value.
        frequent_hashes: field name -> int64, ascending, the value hashes that get a bucket of their own;
            needed for fields with min_count > 1.
    """
    fields = spec.fields
    prefixes = [f"{field.table_name}=".encode() for field in fields]
    num_words = (max(map(len, prefixes)) + max_value_bytes) // 8 + 1
    words = np.zeros(len(fields) * num_words, dtype=np.uint64)
    text = words.view(np.uint8)
    for field, prefix in enumerate(prefixes):
        start = field * num_words * 8
        text[start : start + len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    vocabularies = [
        frequent_hashes[field.name] if field.min_count > 1 else np.empty(0, dtype=np.int64)
        for field in fields
    ]
    positions = {
        field.name: position
        for level in (spec.context_fields, spec.impression_fields)
        for position, field in enumerate(level)
    }
    return FieldTable(
        words=words,
        text=text,
        words_per_field=np.array([num_words], dtype=np.int64),
        prefix_length=np.array([len(prefix) for prefix in prefixes], dtype=np.int64),
        first_row=np.array([spec.offsets[field.table_name] for field in fields], dtype=np.int64),
        num_buckets=np.array([spec.tables[field.table_name].num_buckets for field in fields], dtype=np.int64),
        weighted=np.array([field.weighted or field.is_numbered for field in fields]),
        multi=np.array([field.multi or field.is_numbered for field in fields]),
        max_length=np.array([field.max_length or _NO_MAXIMUM for field in fields], dtype=np.int64),
        position=np.array([positions[field.name] for field in fields], dtype=np.int64),
        counted=np.array([field.min_count > 1 for field in fields]),
        numbered=np.array([field.is_numbered for field in fields]),
        vocabulary=np.concatenate(vocabularies).astype(np.int64),
        vocabulary_offsets=np.cumsum([0, *map(len, vocabularies)], dtype=np.int64),
    )


@inlined_kernel
def hash_value(data: Bytes, start: int, end: int, field: int, table: FieldTable) -> int:
    """Returns the signed XXH64 of `<table>=<value>`, the value being `data[start:end]`."""
    first_word = field * table.words_per_field[0]
    length = table.prefix_length[field]
    value_place = first_word * 8 + length
    for i in range(end - start):
        table.text[value_place + i] = data[start + i]
    return int(np.int64(xxh64(table.words, table.text, first_word, length + end - start, _SEED)))


@inlined_kernel
def row_of_hash(value_hash: int, field: int, table: FieldTable) -> int:
    """Returns a value's arena row: offset + 1 + pmod(hash, num_buckets - 1), or offset if it is rare."""
    # numba's % has Python's sign: the result is that of Spark's pmod.
    bucket = 1 + value_hash % (table.num_buckets[field] - 1)
    if table.counted[field] and not _is_frequent(value_hash, field, table):
        bucket = RARE_BUCKET
    return int(table.first_row[field] + bucket)


@inlined_kernel
def row_of_number(data: Bytes, start: int, end: int, field: int, table: FieldTable) -> int:
    """Returns the arena row of the digits n: offset + 1 + n, or offset if the table has none such."""
    number = 0
    for i in range(start, end):
        digit = int(data[i]) - _ZERO
        if digit < 0 or digit > 9:
            return int(table.first_row[field] + RARE_BUCKET)
        number = min(10 * number + digit, _NO_MAXIMUM // 20)
    bucket = 1 + number
    return int(table.first_row[field] + (bucket if bucket < table.num_buckets[field] else RARE_BUCKET))


@inlined_kernel
def _is_frequent(value_hash: int, field: int, table: FieldTable) -> bool:
    """Returns whether the hash is in the field's vocabulary, by binary search."""
    low, high = table.vocabulary_offsets[field], table.vocabulary_offsets[field + 1]
    last = high
    while low < high:
        middle = (low + high) // 2
        if table.vocabulary[middle] < value_hash:
            low = middle + 1
        else:
            high = middle
    return bool(low < last and table.vocabulary[low] == value_hash)
