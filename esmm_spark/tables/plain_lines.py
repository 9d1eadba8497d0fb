"""What becomes of the lines of a plain table, a batch at a time: the rules of `lines`, in Arrow."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esmm_spark.contracts.schemas.split_names import TEST, TRAIN
from esmm_spark.contracts.tables.splits import TableSplits
from esmm_spark.logs.reasons import BAD_LABEL_NAME
from esmm_spark.reading.reasons import BAD_ID, NO_ID
from esmm_spark.reading.values import BAD_ID_PATTERN
from esmm_spark.runtime.texts import text_memory
from esmm_spark.samples.hashing.held_out import SHARE_STEPS
from esmm_spark.samples.hashing.keys import hash_texts
from esmm_spark.tables.assembling import canonical_texts
from esmm_spark.tables.labels import BAD_FLAG, UNKNOWN_FLAG
from esmm_spark.tables.lines import UNKNOWN_SPLIT
from esmm_spark.tables.splits import test_prefix, test_threshold

FEATURES = "features."

_BYTES = pa.binary()
# Of each byte, whether BAD_ID_PATTERN has it: characters of ASCII, which no byte of another one is.
_IS_BAD_BYTE = np.array(
    [byte < 0x80 and re.search(BAD_ID_PATTERN, chr(byte)) is not None for byte in range(256)]
)
_FLAGS = {b"0": b"0", b"1": b"1", b"true": b"1", b"True": b"1", b"false": b"0", b"False": b"0"}


class PlainLines(NamedTuple):
    """What is read of a plain table.

    Attributes:
        columns: source below `logs.table` -> its column.
        labels: the tasks of the config.
        splits: the rule.
        has_keys: whether lines have a context key.
    """

    columns: Mapping[str, str]
    labels: tuple[str, ...]
    splits: TableSplits
    has_keys: bool


def judged(batch: pa.RecordBatch, split: str | None, plain: PlainLines) -> pa.RecordBatch:
    """Returns lines with what becomes of each: the reasons and the texts are those of `lines`."""
    values = {key: _as_text(batch[column]) for key, column in plain.columns.items()}
    identifier = canonical_texts(values["impression_id"])[0]
    key = canonical_texts(values["context_key"])[0] if plain.has_keys else identifier
    splits = _splits(values, key, split, plain.splits)
    labels = {task: _labels(values.get(f"labels.{task}"), batch.num_rows) for task in plain.labels}
    no_id = pc.or_(identifier.is_null(), key.is_null())
    bad_id = _any([_is_bad_id(text) for text in (identifier, key)])
    bad_label = _any([pc.equal(label, BAD_FLAG.encode()) for label in labels.values()])
    reason = pc.case_when(
        pc.make_struct(no_id, bad_id, splits.is_null(), bad_label),
        *(pa.scalar(name) for name in (NO_ID, BAD_ID, UNKNOWN_SPLIT, BAD_LABEL_NAME)),
        pa.scalar(None, pa.string()),
    )
    columns = {
        "split": splits,
        "impression_id": identifier,
        "context_key": key,
        **labels,
        **{
            f"@{name.removeprefix(FEATURES)}": text
            for name, text in values.items()
            if name.startswith(FEATURES)
        },
        "time_us": pa.nulls(batch.num_rows, pa.int64()),
        "reason": reason,
        "note": pa.nulls(batch.num_rows, pa.string()),
        "raw": _raw(batch, reason, plain.columns),
    }
    return pa.record_batch(list(columns.values()), names=list(columns))


def _as_text(values: pa.Array) -> pa.Array:
    """Returns values as text, lists of them as lists of texts."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return values.cast(pa.list_(pa.string()))
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    return values.cast(_BYTES) if is_text else values.cast(pa.string()).cast(_BYTES)


def _is_bad_id(ids: pa.Array) -> pa.Array:
    """Returns whether BAD_ID_PATTERN is in an id; of a null one false or null."""
    content, _ = text_memory(ids)
    if np.any(_IS_BAD_BYTE[content]):
        return pc.match_substring_regex(ids, BAD_ID_PATTERN)
    return pa.repeat(pa.scalar(False), len(ids))


def _any(conditions: Sequence[pa.Array]) -> pa.Array:
    """Returns whether one is true; null is not."""
    return reduce(pc.or_, (pc.fill_null(each, False) for each in conditions))


def _labels(values: pa.Array | None, num_lines: int) -> pa.Array:
    """Returns flags as canonical lines have them; None: the table has no such label."""
    if values is None:
        return pa.repeat(pa.scalar(UNKNOWN_FLAG.encode()), num_lines)
    texts = canonical_texts(values)[0]
    flags = pa.array([*_FLAGS.values()], _BYTES).take(pc.index_in(texts, pa.array([*_FLAGS], _BYTES)))
    unknown = pc.if_else(texts.is_null(), pa.scalar(UNKNOWN_FLAG.encode()), pa.scalar(BAD_FLAG.encode()))
    return pc.coalesce(flags, unknown)


def _splits(values: Mapping[str, pa.Array], key: pa.Array, split: str | None, rule: TableSplits) -> pa.Array:
    """Returns the split of each line, null where a column names none."""
    if split is None and rule.column is not None:
        named = {value.encode(): name for name, of_split in rule.values.items() for value in of_split}
        texts = canonical_texts(values["splits.column"])[0]
        places = pc.index_in(texts, pa.array([*named], _BYTES))
        return pa.array([*named.values()], pa.string()).take(places)
    if split is None and rule.test_fraction > 0:
        is_test = _is_test(key, rule)
        return pc.if_else(is_test, pa.scalar(TEST), pa.scalar(TRAIN))
    return pa.repeat(pa.scalar(split or TRAIN), len(key))


def _is_test(keys: pa.Array, rule: TableSplits) -> pa.Array:
    texts = pc.fill_null(keys, b"")
    prefix = np.frombuffer(test_prefix(rule).encode(), dtype=np.uint8)
    hashes = hash_texts(prefix, *text_memory(texts))
    # numpy's % has Python's sign, which is that of Spark's pmod.
    return pa.array(hashes % SHARE_STEPS < test_threshold(rule))


def _raw(batch: pa.RecordBatch, reason: pa.Array, columns: Mapping[str, str]) -> pa.Array:
    """Returns the rejected lines' sources as JSON, without those that are null; null of the others."""
    places = np.flatnonzero(reason.is_valid())
    if len(places) == 0:
        return pa.nulls(batch.num_rows, pa.string())
    texts: list[str | None] = [None] * batch.num_rows
    rejected = {key: _readable(batch[column].take(pa.array(places))) for key, column in columns.items()}
    for number, place in enumerate(places):
        line = {key: values[number] for key, values in rejected.items() if values[number] is not None}
        texts[place] = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    return pa.array(texts, pa.string())


def _readable(values: pa.Array) -> list[Any]:
    """Returns values as JSON has them; of text that is no UTF-8 what can be read."""
    if pa.types.is_string(values.type):
        found = values.cast(_BYTES).to_pylist()
        return [None if text is None else text.decode(errors="replace") for text in found]
    return list(values.to_pylist())
