"""The grouping kernel's output buffers: impression groups in flat arrays.

A group's parts follow each other. The last part is open until its group ends or it is full: it lies behind
the closed ones, and stays in the buffers when they are flushed (`carry_open_part`).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esmm_spark.logs.reasons import FIRST_ORPHAN
from esmm_spark.runtime.arrays import Bytes, Float32s, Int8s, Int32s, Int64s

Rows = npt.NDArray[Any]  # int32, or int64 in an arena of 2^31 rows and more

# Places in `GroupBuffers.cursor`: how much of each array is in use, and the state of the open part.
NUM_PARTS, NUM_KEY_BYTES, NUM_IMPRESSIONS, NUM_ID_BYTES, NUM_CONTEXT_TOKENS, NUM_IMPRESSION_TOKENS = range(6)
IS_OPEN, PART = 6, 7
NUM_CURSORS = 8


class GroupBuffers(NamedTuple):
    """The grouping kernel's output: closed parts of groups, and the open one.

    P parts, N impressions, Fc context fields, Fi impression fields, K tasks, C carried columns.

    Attributes:
        cursor: int64 [NUM_CURSORS].
        key_bytes: uint8, `key_offsets`: int64 [P + 1].
        part_number: int64 [P], 0 for a group's first part.
        impression_offsets: int64 [P + 1], the impressions of each part.
        id_bytes: uint8, `id_offsets`: int64 [N + 1].
        labels: int8 [N, K], -1 where unknown.
        carried_bytes: uint8, the carried values as text, `carried_offsets`: int64 [N * C + 1].
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
    labels: Int8s
    carried_bytes: Bytes
    carried_offsets: Int64s
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
        cut_tokens: int64 [1], tokens of accepted contexts beyond their field's `max_length`.
        idle_contexts: int64 [1], accepted contexts without an accepted impression.
    """

    by_reason: Int64s
    unknown_tokens: Int64s
    cut_tokens: Int64s
    idle_contexts: Int64s


class Widths(NamedTuple):
    """Numbers of fields of a context and an impression, and of an impression's labels and carried columns."""

    context_fields: int
    impression_fields: int
    labels: int
    carried: int


def group_buffers(capacity: int, widths: Widths, row_dtype: npt.DTypeLike) -> GroupBuffers:
    """Returns empty buffers of sizes in proportion to `capacity`, which is in bytes of raw lines."""
    # A token takes 5 raw bytes at least; an impression line 10 (`i,0,k,0,` and its place in the batch).
    tokens, impressions, parts = capacity // 5 + 1, capacity // 8 + 1, capacity // 8 + 1
    return GroupBuffers(
        cursor=np.zeros(NUM_CURSORS, dtype=np.int64),
        key_bytes=np.empty(capacity, dtype=np.uint8),
        key_offsets=np.zeros(parts + 1, dtype=np.int64),
        part_number=np.empty(parts, dtype=np.int64),
        impression_offsets=np.zeros(parts + 1, dtype=np.int64),
        id_bytes=np.empty(capacity, dtype=np.uint8),
        id_offsets=np.zeros(impressions + 1, dtype=np.int64),
        labels=np.empty((impressions, widths.labels), dtype=np.int8),
        carried_bytes=np.empty(capacity if widths.carried else 0, dtype=np.uint8),
        carried_offsets=np.zeros(impressions * widths.carried + 1, dtype=np.int64),
        context_rows=np.empty(tokens, dtype=row_dtype),
        context_weights=np.empty(tokens, dtype=np.float32),
        context_offsets=np.zeros(parts + 1, dtype=np.int64),
        context_lengths=np.empty((parts, widths.context_fields), dtype=np.int32),
        impression_rows=np.empty(tokens, dtype=row_dtype),
        impression_weights=np.empty(tokens, dtype=np.float32),
        token_offsets=np.zeros(parts + 1, dtype=np.int64),
        impression_lengths=np.empty((impressions, widths.impression_fields), dtype=np.int32),
    )


def zero_counts(num_labels: int) -> Counts:
    """Returns counts of nothing."""
    return Counts(
        by_reason=np.zeros((2, FIRST_ORPHAN + num_labels), dtype=np.int64),
        unknown_tokens=np.zeros(2, dtype=np.int64),
        cut_tokens=np.zeros(1, dtype=np.int64),
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
        (NUM_IMPRESSIONS, "impression_offsets", ("labels", "impression_lengths")),
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
    num_impressions = int(moved[NUM_IMPRESSIONS])
    moved[NUM_ID_BYTES] = _carry_texts(source, target, "id", first_impression, num_impressions)
    num_carried = (len(source.carried_offsets) - 1) // len(source.labels)
    _carry_texts(source, target, "carried", first_impression * num_carried, num_impressions * num_carried)
    target.context_lengths[0] = source.context_lengths[part]
    target.cursor[:] = moved


def _carry_texts(source: GroupBuffers, target: GroupBuffers, what: str, first: int, count: int) -> int:
    """Copies `count` texts from `first` on to the front of `target`; returns their bytes."""
    offsets = getattr(source, f"{what}_offsets")[first : first + count + 1].copy()
    start, end = int(offsets[0]), int(offsets[-1])
    getattr(target, f"{what}_bytes")[: end - start] = getattr(source, f"{what}_bytes")[start:end].copy()
    getattr(target, f"{what}_offsets")[: count + 1] = offsets - start
    return end - start
