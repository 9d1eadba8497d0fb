"""Runs the grouping kernel over batches of sorted raw lines, in bounded memory, to batches of examples."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.logs.aliccp import line_columns
from esmm_spark.logs.lines import Lines
from esmm_spark.logs.reasons import ACCEPTED
from esmm_spark.runtime.arrays import Int64s
from esmm_spark.samples.grouping.batches import closed_parts, examples_schema, row_dtype
from esmm_spark.samples.grouping.buffers import (
    NUM_PARTS,
    GroupBuffers,
    Widths,
    carry_open_part,
    group_buffers,
    zero_counts,
)
from esmm_spark.samples.grouping.kernel import GroupingRules, close_group, group_lines
from esmm_spark.samples.grouping.placing import Workspace, workspace

# Bytes of raw lines that the buffers hold before the groups in them are handed on. The lines of one
# part of a group must fit: where they don't, the buffers are doubled.
_CAPACITY = 4 << 20
_MAX_LINE_BYTES = 1 << 16


class Grouper:
    """Groups the lines of one partition.

    The lines must stand as `group_lines` wants them. `counts` says what became of all lines so far.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        brought: ImpressionColumns,
        frequent_hashes: dict[str, Int64s],
        max_group_size: int,
        labels_required: bool,
        capacity: int = _CAPACITY,
    ) -> None:
        """Args as in `samples.plan.GroupingPlan`; `frequent_hashes` as in `hashing.field_table`."""
        self.schema = examples_schema(spec, brought)
        self.counts = zero_counts(len(brought.tasks.names))
        self._spec, self._brought, self._frequent_hashes = spec, brought, frequent_hashes
        columns = line_columns(brought.tasks, len(brought.carry), labels_required)
        self._rules = GroupingRules(max_group_size, columns)
        self._capacity, self._max_line_bytes = capacity, _MAX_LINE_BYTES
        self._groups = self._new_buffers()
        self._work = self._new_workspace()

    def take(self, lines: Lines) -> Iterator[pa.RecordBatch]:
        """Groups a batch of lines; yields the examples each time that the buffers are full.

        Args:
            lines: `reason` is output.
        """
        num_lines = len(lines.starts)
        if num_lines == 0:
            return
        self._fit(int((lines.ends - lines.starts).max()))
        next_line = 0
        while True:
            next_line = group_lines(
                lines,
                next_line,
                self._work,
                self._rules,
                self._groups,
                self.counts,
            )
            if next_line == num_lines:
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
        examples = closed_parts(self._groups, self.schema, self._brought)
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
        widths = Widths(
            len(spec.context_fields),
            len(spec.impression_fields),
            len(self._brought.tasks.names),
            len(self._brought.carry),
        )
        return group_buffers(self._capacity, widths, row_dtype(spec))

    def _new_workspace(self) -> Workspace:
        return workspace(self._spec, self._max_line_bytes, self._frequent_hashes)


def rejected_lines(lines: Lines) -> pa.RecordBatch:
    """Returns the lines that were not accepted: columns `kind`, `line` binary, `reason` int8."""
    places = np.flatnonzero(lines.reason != ACCEPTED)
    raw = [lines.data[lines.starts[place] : lines.ends[place]].tobytes() for place in places]
    columns = [pa.array(lines.kind[places]), pa.array(raw, type=pa.binary()), pa.array(lines.reason[places])]
    return pa.record_batch(columns, names=["kind", "line", "reason"])
