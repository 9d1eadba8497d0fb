"""On how many lines each value of a field with min_count > 1 stands."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from esmm_spark.features import FeatureSpec
from esmm_spark.logs.aliccp import parse_context, parse_impression, trim
from esmm_spark.logs.arrays import Int32s, Int64s
from esmm_spark.logs.compiling import kernel
from esmm_spark.logs.lines import CONTEXT, Lines, lines_of
from esmm_spark.logs.reasons import ACCEPTED
from esmm_spark.logs.tokens import CONTEXT_LEVEL, IMPRESSION_LEVEL, MIN_TOKEN_BYTES
from esmm_spark.samples.hashing import hash_value
from esmm_spark.samples.placing import Workspace, parse_tokens, workspace

COUNTS_SCHEMA = "field int, value_hash bigint, lines bigint"
_NO_LINE = -1


class Room(NamedTuple):
    """What one line's values are found with.

    Attributes:
        work: the compiled spec, and room for the line's tokens.
        seen_hash: int64 [power of two], hash table of the line's values.
        seen_line: the same, the line that a slot was filled for.
    """

    work: Workspace
    seen_hash: Int64s
    seen_line: Int64s


def count_values(batches: Iterable[pa.RecordBatch], spec: FeatureSpec) -> Iterator[pa.RecordBatch]:
    """Yields COUNTS_SCHEMA: the field's place in the spec, a value's hash, the number of lines it stands on.

    A value may come up again from batch to batch. Only lines that parse count; a line counts once, however
    often it holds the value.

    Args:
        batches: columns `kind` and `line`, in any order.
        spec: the feature spec.
    """
    max_line_bytes = 1 << 16
    room = _room(spec, max_line_bytes)
    for batch in batches:
        if batch.num_rows == 0:
            continue
        lines = lines_of(batch)
        longest = int((lines.ends - lines.starts).max())
        if longest > max_line_bytes:
            max_line_bytes = 2 * longest
            room = _room(spec, max_line_bytes)
        room.seen_line.fill(_NO_LINE)
        capacity = len(lines.data) // MIN_TOKEN_BYTES + 1
        fields, hashes = np.empty(capacity, dtype=np.int32), np.empty(capacity, dtype=np.int64)
        num_values = collect_values(lines, room, fields, hashes)
        values = pa.table({"field": fields[:num_values], "value_hash": hashes[:num_values]})
        counts = values.group_by(["field", "value_hash"]).aggregate([([], "count_all")])
        columns = [counts["field"], counts["value_hash"], counts["count_all"]]
        yield from pa.table(columns, names=["field", "value_hash", "lines"]).to_batches()


def _room(spec: FeatureSpec, max_line_bytes: int) -> Room:
    num_slots = 1 << (2 * (max_line_bytes // MIN_TOKEN_BYTES + 1)).bit_length()
    return Room(
        work=workspace(
            spec, max_line_bytes, {field.name: np.empty(0, dtype=np.int64) for field in spec.fields}
        ),
        seen_hash=np.empty(num_slots, dtype=np.int64),
        seen_line=np.empty(num_slots, dtype=np.int64),
    )


@kernel
def collect_values(lines: Lines, room: Room, fields: Int32s, hashes: Int64s) -> int:
    """Writes field and hash of the values of counted fields, once for each line; returns how many.

    Args:
        lines: the lines.
        room: `seen_line` is all -1.
        fields: output.
        hashes: output.
    """
    work = room.work
    num_values = 0
    for line in range(lines.starts.shape[0]):
        start = int(lines.starts[line])
        end = trim(lines.data, start, int(lines.ends[line]))
        if lines.kind[line] == CONTEXT:
            level = CONTEXT_LEVEL
            reason, _, count, tokens_start = parse_context(lines.data, start, end)
        else:
            level = IMPRESSION_LEVEL
            header = parse_impression(lines.data, start, end, False)
            reason, count, tokens_start = header[0], header[6], header[7]
        if reason != ACCEPTED:
            continue
        reason, num_tokens, _ = parse_tokens(lines.data, tokens_start, end, count, level, work)
        if reason != ACCEPTED:
            continue
        for token in range(num_tokens):
            field = work.tokens.field[token]
            if not work.table.counted[field]:
                continue
            value_hash = hash_value(
                lines.data, work.tokens.value_start[token], work.tokens.value_end[token], field, work.table
            )
            # Fields that share a table share hashes: the field's number tells them apart.
            if _add(value_hash ^ (field * 0x9E3779B97F4A7C1), line, room.seen_hash, room.seen_line):
                fields[num_values] = field
                hashes[num_values] = value_hash
                num_values += 1
    return num_values


@kernel
def _add(key: int, line: int, seen_hash: Int64s, seen_line: Int64s) -> bool:
    """Returns whether `key` is new on this line, and remembers it."""
    mask = seen_hash.shape[0] - 1
    slot = key & mask
    while seen_line[slot] == line:
        if seen_hash[slot] == key:
            return False
        slot = (slot + 1) & mask
    seen_hash[slot], seen_line[slot] = key, line
    return True
