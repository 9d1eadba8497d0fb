"""Closed parts of groups to Arrow record batches of the examples (`columns.example_columns`)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.contracts.schemas.columns import example_columns
from esmm_spark.files.schemas import arrow_schema
from esmm_spark.logs.aliccp import NO_LABEL
from esmm_spark.runtime.arrays import Bytes, Int8s, Int64s
from esmm_spark.samples.grouping.buffers import NUM_PARTS, GroupBuffers
from esmm_spark.samples.hashing.keys import hash_parts

_OFFSET_BYTES = 4
# What can't stand in a column of a line stands there as in a URL. Nothing is null; an empty text is a lone %.
_ESCAPES = (("%2C", ","), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%"))
_EMPTY_TEXT = "%"


def row_dtype(spec: FeatureSpec) -> npt.DTypeLike:
    """Returns the numpy type of arena rows: int64 once the arena has 2^31 rows or more."""
    return np.int32 if spec.row_type == "int" else np.int64


def examples_schema(spec: FeatureSpec, columns: ImpressionColumns) -> pa.Schema:
    """Returns the Arrow schema of the examples; labels may be null until they are known."""
    return arrow_schema(example_columns(spec.row_type, columns.tasks.names, columns.carry))


def closed_parts(groups: GroupBuffers, schema: pa.Schema, brought: ImpressionColumns) -> pa.RecordBatch:
    """Returns the closed parts of `groups`, one record each, copied: the buffers may be used again.

    Args:
        groups: the kernel's buffers.
        schema: `examples_schema`.
        brought: the labels and carried columns in it.
    """
    parts = int(groups.cursor[NUM_PARTS])
    of_impressions = groups.impression_offsets[: parts + 1]
    of_contexts, of_tokens = groups.context_offsets[: parts + 1], groups.token_offsets[: parts + 1]
    num_context_fields, num_impression_fields = (
        groups.context_lengths.shape[1],
        groups.impression_lengths.shape[1],
    )
    of_context_bags = np.arange(parts + 1, dtype=np.int64) * num_context_fields
    types = dict(zip(schema.names, schema.types, strict=True))

    def lists(name: str, values: npt.NDArray[Any], offsets: Int64s) -> pa.ListArray:
        used = values[: int(offsets[-1])].copy()
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(used), type=types[name])

    tokens = {
        "context_rows": (groups.context_rows, of_contexts),
        "context_weights": (groups.context_weights, of_contexts),
        "context_lengths": (groups.context_lengths.reshape(-1), of_context_bags),
        "impression_rows": (groups.impression_rows, of_tokens),
        "impression_weights": (groups.impression_weights, of_tokens),
        "impression_lengths": (
            groups.impression_lengths.reshape(-1),
            of_impressions * num_impression_fields,
        ),
    }
    ids = _strings(groups.id_bytes, groups.id_offsets[: int(of_impressions[-1]) + 1])
    columns = {
        "group_key": _strings(groups.key_bytes, groups.key_offsets[: parts + 1]),
        "group_hash": pa.array(
            hash_parts(groups.key_bytes, groups.key_offsets[: parts + 1], groups.part_number[:parts])
        ),
        "impression_id": pa.ListArray.from_arrays(pa.array(of_impressions.astype(np.int32)), ids),
        **{
            name: _labels(groups.labels[:, task], of_impressions)
            for task, name in enumerate(brought.tasks.names)
        },
        **_carried(groups, of_impressions, schema, list(brought.carry)),
        **{name: lists(name, *of_name) for name, of_name in tokens.items()},
    }
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def group_bytes(examples: pa.RecordBatch) -> Int64s:
    """Returns [G] what each group of the examples takes in memory, in bytes, strings left out."""
    total = np.full(examples.num_rows, 2 * _OFFSET_BYTES * examples.num_columns, dtype=np.int64)
    for column in examples.columns:
        if pa.types.is_list(column.type):
            value_type = column.type.value_type
            width = 2 * _OFFSET_BYTES if pa.types.is_string(value_type) else value_type.bit_width // 8
            total += np.diff(column.offsets.to_numpy()) * width
    return total


def _labels(labels: Int8s, offsets: Int64s) -> pa.ListArray:
    used = labels[: int(offsets[-1])].copy()
    unknown = used == NO_LABEL
    values = pa.array(used, mask=unknown) if unknown.any() else pa.array(used)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def _carried(
    groups: GroupBuffers, of_impressions: Int64s, schema: pa.Schema, names: list[str]
) -> dict[str, pa.ListArray]:
    """Returns the carried columns, read from their text; a value without text is null."""
    if not names:
        return {}
    ends = pa.array(of_impressions.astype(np.int32))
    texts = _strings(groups.carried_bytes, groups.carried_offsets[: int(of_impressions[-1]) * len(names) + 1])
    columns = {}
    for number, name in enumerate(names):
        values = texts.take(pa.array(np.arange(number, len(texts), len(names))))
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
        value_type = schema.field(name).type.value_type
        values = _unescaped(values) if pa.types.is_string(value_type) else values.cast(value_type)
        columns[name] = pa.ListArray.from_arrays(ends, values)
    return columns


def _unescaped(texts: pa.StringArray) -> pa.StringArray:
    texts = pc.if_else(pc.equal(texts, _EMPTY_TEXT), "", texts)
    for escape, character in _ESCAPES:
        texts = pc.replace_substring(texts, escape, character)
    return texts


def _strings(text: Bytes, offsets: Int64s) -> pa.StringArray:
    used = text[: int(offsets[-1])].tobytes()
    return pa.StringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(used)
    )
