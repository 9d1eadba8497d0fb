"""A Spark task of preprocessing: sorted lines to Parquet files and one report."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import DEFAULT_COLUMNS
from esmm_spark.contracts.schemas.layout import EXAMPLES, REJECTS
from esmm_spark.logs.lines import CONTEXT, IMPRESSION, split_lines
from esmm_spark.logs.reasons import reason_names
from esmm_spark.samples.example_files import REJECTS_SCHEMA, ExamplesWriter, RejectsWriter
from esmm_spark.samples.grouping.grouper import Grouper, rejected_lines
from esmm_spark.samples.hashing.held_out import HeldOut, held_out_mask
from esmm_spark.samples.lines.merging import LineMerger, merged_lines
from esmm_spark.samples.lines.packing import pack_lines
from esmm_spark.samples.lines.sorting import packing
from esmm_spark.samples.plan import GroupingPlan, GroupingReport, LineCounts
from esmm_spark.samples.vocabulary import load_vocabulary
from esmm_spark.spark.tasks import Attempt

CONTEXT_SOURCE, IMPRESSION_SOURCE = "common_features", "skeleton"
_SOME_LINES = b"k,0,", b"i,0,0,k,0,", b"j,0,0,k,0,", b"j,0,0,k,0,"


def group_partition(
    batches: Iterable[pa.RecordBatch], attempt: Attempt, plan: GroupingPlan
) -> GroupingReport:
    """Writes the examples and rejects of one partition of lines; returns what was written.

    An attempt that fails, or that another one overtakes, leaves files that no report names.

    Args:
        batches: packed lines, sorted as `LineMerger` wants them.
        attempt: in whose name the files are written.
        plan: how the lines become examples.
    """
    grouper = Grouper(
        plan.spec,
        plan.brought,
        load_vocabulary(plan.vocabulary, plan.spec) if plan.vocabulary else {},
        plan.samples.max_group_size,
        plan.labels_required,
    )
    writers = {
        partition: ExamplesWriter(
            plan.dataset,
            f"{EXAMPLES}/{partition}/{attempt.file}",
            grouper.schema,
            plan.row_group_bytes,
            plan.samples.compression,
        )
        for partition in plan.partitions
    }
    rejects = RejectsWriter(plan.dataset, f"{REJECTS}/{plan.source}-{attempt.file}")
    merger, reasons = LineMerger(), pa.array(reason_names(plan.brought.tasks))
    for lines in merged_lines(batches, merger):
        if merger.ids.has_several_keys:
            # All of it will be done again: the rest is only taken from Spark's hands.
            continue
        for examples in grouper.take(lines):
            _write(examples, plan, writers)
        rejects.write(_describe_rejects(rejected_lines(lines), plan.source, reasons))
    for examples in grouper.finish():
        _write(examples, plan, writers)
    written = {partition: writer.close() for partition, writer in writers.items()}
    return GroupingReport(
        task=attempt.task,
        several_keys=merger.ids.has_several_keys,
        read=merger.read.tolist(),
        lines=LineCounts.of(grouper.counts),
        partitions={partition: counts for partition, counts in written.items() if counts is not None},
        rejects_file=rejects.close(),
    )


def compile_kernels(spec: FeatureSpec) -> None:
    """Compiles the kernels for `spec`'s type of rows, or loads them from where an earlier process left them.

    A driver calls it before its workers start, so that on one host they needn't all compile.
    """
    # Of how many labels and carried columns makes no difference to the compiler.
    brought = DEFAULT_COLUMNS
    no_vocabulary = {field.name: np.empty(0, dtype=np.int64) for field in spec.fields}
    grouper = Grouper(spec, brought, no_vocabulary, 1, True, 64)
    blocks = [split_lines(line, CONTEXT if line == b"k,0," else IMPRESSION) for line in _SOME_LINES]
    held_out = HeldOut("", 0.5, 0)
    how = packing(held_out, 1, len(brought.tasks.names))
    for lines in merged_lines(pack_lines(blocks, how), LineMerger()):
        for examples in grouper.take(lines):
            held_out_mask(examples, held_out)
        rejected_lines(lines)
    for examples in grouper.finish():
        held_out_mask(examples, held_out)


def _write(examples: pa.RecordBatch, plan: GroupingPlan, writers: dict[str, ExamplesWriter]) -> None:
    if plan.held_out is None:
        writers[plan.partition].write(examples)
        return
    mask = held_out_mask(examples, plan.held_out)
    # The lines come sorted by this, so there are few runs: one slice each, which copies nothing.
    ends = np.flatnonzero(np.diff(mask, append=~mask[-1:])) + 1
    start = 0
    for end in map(int, ends):
        partition = plan.held_out.partition if mask[start] else plan.partition
        writers[partition].write(examples.slice(start, end - start))
        start = end


def _describe_rejects(rejected: pa.RecordBatch, source: str, reasons: pa.Array) -> pa.RecordBatch:
    """Returns the rejected lines as REJECTS_SCHEMA has them; `reasons` are the names of all codes."""
    is_context = rejected.column("kind").to_numpy() == CONTEXT
    names = np.where(is_context, f"{source}.{CONTEXT_SOURCE}", f"{source}.{IMPRESSION_SOURCE}")
    return pa.record_batch(
        [
            rejected.column("line"),
            pa.array(names, type=pa.string()),
            reasons.take(rejected.column("reason")),
        ],
        schema=REJECTS_SCHEMA,
    )
