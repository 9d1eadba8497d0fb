"""The grouping kernel's output buffers: impression groups in flat arrays.

A group's parts follow each other. The last part is open until its group ends or it is full: it lies behind
the closed ones, and stays in the buffers when they are flushed (`carry_open_part`).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esmm_spark.contracts.schemas.columns import LABELS
from esmm_spark.logs.arrays import Bytes, Float32s, Int8s, Int32s, Int64s
from esmm_spark.logs.reasons import REASONS

Rows = npt.NDArray[Any]  # int32, or int64 in an arena of 2^31 rows and more

# Places in `GroupBuffers.cursor`: how much of each array is in use, and the state of the open part.
NUM_PARTS, NUM_KEY_BYTES, NUM_IMPRESSIONS, NUM_ID_BYTES, NUM_CONTEXT_TOKENS, NUM_IMPRESSION_TOKENS = range(6)
IS_OPEN, PART = 6, 7
NUM_CURSORS = 8


class GroupBuffers(NamedTuple):
    """Closed parts and the open one. P parts, N impressions, Fc context fields, Fi impression fields.

    Attributes:
        cursor: int64 [NUM_CURSORS].
        key_bytes: uint8, `key_offsets`: int64 [P + 1].
        part_number: int64 [P], 0 for a group's first part.
        impression_offsets: int64 [P + 1], the impressions of each part.
        id_bytes: uint8, `id_offsets`: int64 [N + 1].
        click, conversion: int8 [N], -1 where unknown.
        context_rows, context_weights, `context_offsets`: int64 [P + 1].
        context_lengths: int32 [P, Fc].
        impression_rows, impression_weights, `token_offsets`: int64 [P + 1].
        impression_lengths: int32 [N, Fi].
    """

    cursor: Int64s
    key_bytes: Bytes
    key_offsets: Int64s
    part_number: Int64s
    impression_offsets: Int64s
    id_bytes: Bytes
    id_offsets: Int64s
    click: Int8s
    conversion: Int8s
    context_rows: Rows
    context_weights: Float32s
    context_offsets: Int64s
    context_lengths: Int32s
    impression_rows: Rows
    impression_weights: Float32s
    token_offsets: Int64s
    impression_lengths: Int32s


class Counts(NamedTuple):
    """What became of the lines of one partition. Two kinds of line: 0 context, 1 impression.

    Attributes:
        by_reason: int64 [2, reasons], lines by reason; reason 0 is accepted.
        unknown_tokens: int64 [2], tokens of accepted lines whose field isn't in the spec.
        idle_contexts: int64 [1], accepted contexts without an accepted impression.
    """

    by_reason: Int64s
    unknown_tokens: Int64s
    idle_contexts: Int64s


def group_buffers(
    capacity: int, num_context_fields: int, num_impression_fields: int, row_dtype: npt.DTypeLike
) -> GroupBuffers:
    """Returns empty buffers of sizes in proportion to `capacity`, which is in bytes of raw lines."""
    # A token takes 5 raw bytes at least; an impression line 12 (`i,0,0,k,0,` and its place in the batch).
    tokens, impressions, parts = capacity // 5 + 1, capacity // 8 + 1, capacity // 8 + 1
    return GroupBuffers(
        cursor=np.zeros(NUM_CURSORS, dtype=np.int64),
        key_bytes=np.empty(capacity, dtype=np.uint8),
        key_offsets=np.zeros(parts + 1, dtype=np.int64),
        part_number=np.empty(parts, dtype=np.int64),
        impression_offsets=np.zeros(parts + 1, dtype=np.int64),
        id_bytes=np.empty(capacity, dtype=np.uint8),
        id_offsets=np.zeros(impressions + 1, dtype=np.int64),
        click=np.empty(impressions, dtype=np.int8),
        conversion=np.empty(impressions, dtype=np.int8),
        context_rows=np.empty(tokens, dtype=row_dtype),
        context_weights=np.empty(tokens, dtype=np.float32),
        context_offsets=np.zeros(parts + 1, dtype=np.int64),
        context_lengths=np.empty((parts, num_context_fields), dtype=np.int32),
        impression_rows=np.empty(tokens, dtype=row_dtype),
        impression_weights=np.empty(tokens, dtype=np.float32),
        token_offsets=np.zeros(parts + 1, dtype=np.int64),
        impression_lengths=np.empty((impressions, num_impression_fields), dtype=np.int32),
    )


def zero_counts() -> Counts:
    """Returns counts of nothing."""
    return Counts(
        by_reason=np.zeros((2, len(REASONS)), dtype=np.int64),
        unknown_tokens=np.zeros(2, dtype=np.int64),
        idle_contexts=np.zeros(1, dtype=np.int64),
    )


def carry_open_part(source: GroupBuffers, target: GroupBuffers) -> None:
    """Copies the open part of `source` to the front of `target`, which may be the same; drops closed ones."""
    cursor = source.cursor
    part, first_impression = int(cursor[NUM_PARTS]), 0
    moved = np.zeros(NUM_CURSORS, dtype=np.int64)
    moved[IS_OPEN], moved[PART] = cursor[IS_OPEN], cursor[PART]
    for place, offsets, arrays in (
        (NUM_KEY_BYTES, "key_offsets", ("key_bytes",)),
        (NUM_IMPRESSIONS, "impression_offsets", (*LABELS, "impression_lengths")),
        (NUM_CONTEXT_TOKENS, "context_offsets", ("context_rows", "context_weights")),
        (NUM_IMPRESSION_TOKENS, "token_offsets", ("impression_rows", "impression_weights")),
    ):
        start, end = int(getattr(source, offsets)[part]), int(cursor[place])
        moved[place] = end - start
        for name in arrays:
            # .copy(): the two may overlap.
            getattr(target, name)[: end - start] = getattr(source, name)[start:end].copy()
        getattr(target, offsets)[0] = 0
        if place == NUM_IMPRESSIONS:
            first_impression = start
    id_start, id_end = int(source.id_offsets[first_impression]), int(cursor[NUM_ID_BYTES])
    moved[NUM_ID_BYTES] = id_end - id_start
    target.id_bytes[: id_end - id_start] = source.id_bytes[id_start:id_end].copy()
    num_impressions = int(moved[NUM_IMPRESSIONS])
    id_offsets = source.id_offsets[first_impression : first_impression + num_impressions + 1] - id_start
    target.id_offsets[: num_impressions + 1] = id_offsets
    target.context_lengths[0] = source.context_lengths[part]
    target.cursor[:] = moved
