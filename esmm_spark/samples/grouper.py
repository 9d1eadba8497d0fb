"""Batches of sorted raw lines in, batches of examples out, in memory that stays the same."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from esmm_spark.features import FeatureSpec
from esmm_spark.logs.arrays import Int8s, Int64s
from esmm_spark.logs.reasons import ACCEPTED
from esmm_spark.samples.example_batches import closed_parts, examples_schema, row_dtype
from esmm_spark.samples.group_buffers import (
    NUM_PARTS,
    GroupBuffers,
    carry_open_part,
    group_buffers,
    zero_counts,
)
from esmm_spark.samples.grouping import CONTEXT, IMPRESSION, Lines, close_group, group_lines
from esmm_spark.samples.placing import Workspace, workspace

# Bytes of raw lines that the buffers have room for before the groups in them are handed on. The lines of one
# part of a group must fit: where they don't, the buffers are doubled.
_CAPACITY = 4 << 20
_MAX_LINE_BYTES = 1 << 16


class Grouper:
    """Groups the lines of one partition.

    The lines must stand as `group_lines` wants them. `counts` says what became of all lines so far, and
    `reasons` what became of each line of the last batch.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        frequent_hashes: dict[str, Int64s],
        max_group_size: int,
        labels_required: bool,
        capacity: int = _CAPACITY,
    ) -> None:
        """Args as in `samples.plan.GroupingPlan`; `frequent_hashes` as in `hashing.field_table`."""
        self.schema = examples_schema(spec)
        self.counts = zero_counts()
        self.reasons: Int8s = np.empty(0, dtype=np.int8)
        self._spec, self._frequent_hashes = spec, frequent_hashes
        self._max_group_size, self._labels_required = max_group_size, labels_required
        self._capacity, self._max_line_bytes = capacity, _MAX_LINE_BYTES
        self._groups = self._new_buffers()
        self._work = self._new_workspace()

    def take(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Takes lines and yields the examples that the buffers have no more room for.

        Args:
            batch: columns `kind` int8 (CONTEXT, IMPRESSION or REPEATED_IMPRESSION) and `line` binary or
                string.
        """
        lines = lines_of(batch)
        if batch.num_rows == 0:
            return
        self._fit(int(np.diff(lines.offsets).max()))
        self.reasons = lines.reason
        next_line = 0
        while True:
            next_line = group_lines(
                lines,
                next_line,
                self._work,
                self._max_group_size,
                self._labels_required,
                self._groups,
                self.counts,
            )
            if next_line == batch.num_rows:
                return
            if self._groups.cursor[NUM_PARTS] > 0:
                yield self._take_out()
            else:
                self._grow()

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Yields the rest, after the last batch."""
        close_group(self._groups, self.counts)
        if self._groups.cursor[NUM_PARTS] > 0:
            yield self._take_out()

    def _take_out(self) -> pa.RecordBatch:
        examples = closed_parts(self._groups, self.schema)
        carry_open_part(self._groups, self._groups)
        return examples

    def _grow(self) -> None:
        self._capacity *= 2
        larger = self._new_buffers()
        carry_open_part(self._groups, larger)
        self._groups = larger

    def _fit(self, line_bytes: int) -> None:
        if line_bytes > self._max_line_bytes:
            self._max_line_bytes = 2 * line_bytes
            self._work = self._new_workspace()

    def _new_buffers(self) -> GroupBuffers:
        spec = self._spec
        return group_buffers(
            self._capacity, len(spec.context_fields), len(spec.impression_fields), row_dtype(spec)
        )

    def _new_workspace(self) -> Workspace:
        return workspace(self._spec, self._max_line_bytes, self._frequent_hashes)


def lines_of(batch: pa.RecordBatch) -> Lines:
    """Returns the lines of a batch without copying them."""
    column, kind = batch.column("line"), batch.column("kind")
    _, offsets, data = column.buffers()
    start, num_lines = column.offset, len(column)
    return Lines(
        data=np.frombuffer(data or b"", dtype=np.uint8),
        offsets=np.frombuffer(offsets, dtype=np.int32)[start : start + num_lines + 1]
        if num_lines
        else np.zeros(1, dtype=np.int32),
        kind=kind.to_numpy(),
        reason=np.zeros(num_lines, dtype=np.int8),
    )


def rejected_lines(batch: pa.RecordBatch, reasons: Int8s) -> pa.RecordBatch:
    """Returns the lines of `batch` that were not accepted: columns `kind`, `line` binary, `reason` int8."""
    places = np.flatnonzero(reasons != ACCEPTED)
    line = batch.column("line")
    # Not cast: that would check what was a string column for UTF-8.
    raw = pa.BinaryArray.from_buffers(pa.binary(), len(line), line.buffers(), offset=line.offset)
    columns = [batch.column("kind").take(pa.array(places)), raw.take(pa.array(places)), reasons[places]]
    return pa.record_batch([*columns[:2], pa.array(columns[2])], names=["kind", "line", "reason"])


def compile_kernels(spec: FeatureSpec) -> None:
    """Compiles the kernels for `spec`'s type of rows, or loads them from where an earlier process left them.

    A driver calls it before its workers start, so that on one host they needn't all compile.
    """
    grouper = Grouper(spec, {field.name: np.empty(0, dtype=np.int64) for field in spec.fields}, 1, True, 64)
    lines = [(CONTEXT, b"k,0,"), (IMPRESSION, b"i,0,0,k,0,")]
    kinds = pa.array([kind for kind, _ in lines], type=pa.int8())
    batch = pa.record_batch([kinds, pa.array([line for _, line in lines])], names=["kind", "line"])
    list(grouper.take(batch))
    list(grouper.finish())
