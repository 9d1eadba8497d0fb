"""Document frequency of the values of fields with min_count > 1: the number of lines each occurs on."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.logs.aliccp import LineColumns, line_columns, parse_context, parse_impression, trim
from esmm_spark.logs.compiling import kernel
from esmm_spark.logs.lines import CONTEXT, Lines, lines_of
from esmm_spark.logs.reasons import ACCEPTED
from esmm_spark.logs.tokens import CONTEXT_LEVEL, IMPRESSION_LEVEL, MIN_TOKEN_BYTES
from esmm_spark.runtime.arrays import Int8s, Int32s, Int64s
from esmm_spark.runtime.hash_kernels import fibonacci_hash, fibonacci_slot, find_slot, floor_log2
from esmm_spark.samples.grouping.placing import Workspace, parse_tokens, workspace
from esmm_spark.samples.hashing.values import hash_value

COUNTS_SCHEMA = "field int, value_hash bigint, lines bigint"
# What stands in a free slot. A value with this hash may be counted more than once a line.
_FREE = -0x8000_0000_0000_0000


class CountBuffers(NamedTuple):
    """Scratch buffers to count the distinct values of one line.

    Attributes:
        work: the compiled spec, and buffers for the line's tokens.
        values: int64 [power of two], hash table of `hash_kernels`: the line's distinct values.
        used_slots: int64 [tokens], the slots of `values` that are in use.
        columns: which columns impressions have.
        labels: int8 [K], which nobody reads.
    """

    work: Workspace
    values: Int64s
    used_slots: Int64s
    columns: LineColumns
    labels: Int8s


def count_values(
    batches: Iterable[pa.RecordBatch], spec: FeatureSpec, brought: ImpressionColumns
) -> Iterator[pa.RecordBatch]:
    """Yields COUNTS_SCHEMA: the field's place in the spec, a value's hash, the number of lines it stands on.

    A value may come up again from batch to batch. Only lines that parse count; a line counts once, however
    often it holds the value.

    Args:
        batches: columns `kind` and `line`, in any order.
        spec: the feature spec.
        brought: the labels and carried columns of an impression.
    """
    max_line_bytes = 1 << 16
    buffers = _count_buffers(spec, brought, max_line_bytes)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        lines = lines_of(batch)
        longest = int((lines.ends - lines.starts).max())
        if longest > max_line_bytes:
            max_line_bytes = 2 * longest
            buffers = _count_buffers(spec, brought, max_line_bytes)
        capacity = len(lines.data) // MIN_TOKEN_BYTES + 1
        fields, hashes = np.empty(capacity, dtype=np.int32), np.empty(capacity, dtype=np.int64)
        num_values = collect_values(lines, buffers, fields, hashes)
        values = pa.table({"field": fields[:num_values], "value_hash": hashes[:num_values]})
        counts = values.group_by(["field", "value_hash"]).aggregate([([], "count_all")])
        columns = [counts["field"], counts["value_hash"], counts["count_all"]]
        yield from pa.table(columns, names=["field", "value_hash", "lines"]).to_batches()


def _count_buffers(spec: FeatureSpec, brought: ImpressionColumns, max_line_bytes: int) -> CountBuffers:
    most_tokens = max_line_bytes // MIN_TOKEN_BYTES + 1
    return CountBuffers(
        work=workspace(
            spec, max_line_bytes, {field.name: np.empty(0, dtype=np.int64) for field in spec.fields}
        ),
        values=np.full(1 << (2 * most_tokens).bit_length(), _FREE, dtype=np.int64),
        used_slots=np.empty(most_tokens, dtype=np.int64),
        columns=line_columns(brought.tasks, len(brought.carry), labels_required=False),
        labels=np.empty(len(brought.tasks.names), dtype=np.int8),
    )


@kernel
def collect_values(lines: Lines, buffers: CountBuffers, fields: Int32s, hashes: Int64s) -> int:
    """Writes field and hash of the values of counted fields, once for each line; returns how many.

    Args:
        lines: the lines.
        buffers: `values` is empty, and is so again afterwards.
        fields: output.
        hashes: output.
    """
    work, values, bits = buffers.work, buffers.values, floor_log2(buffers.values.shape[0])
    num_values = 0
    for line in range(lines.starts.shape[0]):
        start = int(lines.starts[line])
        end = trim(lines.data, start, int(lines.ends[line]))
        if lines.kind[line] == CONTEXT:
            level = CONTEXT_LEVEL
            reason, _, count, tokens_start = parse_context(lines.data, start, end)
        else:
            level = IMPRESSION_LEVEL
            header = parse_impression(lines.data, start, end, buffers.columns, buffers.labels)
            reason, count, tokens_start = header[0], header[4], header[5]
        if reason != ACCEPTED:
            continue
        reason, num_tokens, _, _ = parse_tokens(lines.data, tokens_start, end, count, level, work)
        if reason != ACCEPTED:
            continue
        num_used = 0
        for token in range(num_tokens):
            field = work.tokens.field[token]
            if not work.table.counted[field]:
                continue
            value_hash = hash_value(
                lines.data, work.tokens.value_start[token], work.tokens.value_end[token], field, work.table
            )
            # Fields that share a table share hashes: the field's number tells them apart.
            key = value_hash ^ np.int64(fibonacci_hash(field))
            slot = find_slot(values, key, _FREE, fibonacci_slot(key, bits))
            if values[slot] == _FREE:
                values[slot], buffers.used_slots[num_used] = key, slot
                fields[num_values], hashes[num_values] = field, value_hash
                num_values, num_used = num_values + 1, num_used + 1
        for i in range(num_used):
            values[buffers.used_slots[i]] = _FREE
    return num_values
