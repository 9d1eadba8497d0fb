"""Lines of a split to a dataset's examples and rejects: the one pass over the data, and how it is committed.

Each task writes files under names of its own and returns one report (`files/attempts.py`). The driver keeps
the files that reports name and deletes the rest. So counts are as right as the files they count.
"""

import os
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.contracts.manifest import PartitionCounts, SourceCounts, add_counts
from esmm_spark.contracts.schemas.layout import EXAMPLES, REJECTS
from esmm_spark.files import filesystems, storage
from esmm_spark.files.attempts import delete_others, keep_attempt
from esmm_spark.logs.heads import BYTE_ORDER_MARK, BYTE_ORDER_MARKS
from esmm_spark.logs.line_files import FileRange, file_ranges
from esmm_spark.logs.lines import CONTEXT
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.logs.reasons import ACCEPTED, reason_names
from esmm_spark.runtime.arrays import Int64s
from esmm_spark.samples.example_files import write_empty_rejects
from esmm_spark.samples.lines.packing import Packing
from esmm_spark.samples.lines.sorting import pack_files, pack_frame, pack_tasks, packing, sort_lines
from esmm_spark.samples.plan import GroupingPlan, GroupingReport, LineCounts
from esmm_spark.samples.repeated import find_repeated, mark_kinds
from esmm_spark.samples.task import CONTEXT_SOURCE, IMPRESSION_SOURCE, compile_kernels, group_partition
from esmm_spark.spark.steps import step
from esmm_spark.spark.tasks import Attempt, run_partitions

# The note of sources that counts what `max_length` cut.
CUT_TOKENS = "tokens_beyond_max_length"

# A task sorts this much of raw lines, and writes a file of about 0.4 times that.
_BYTES_PER_TASK = 128 << 20
# Ranks share the row groups: so many at least, however little data there is.
_MIN_FILES = 8
# So that each task has about as many ids to look for.
_BUCKETS_PER_FILE = 4


class Written(NamedTuple):
    """The partitions, counts and rejects that a split was written to.

    Attributes:
        partitions: `split=train` -> what is in it. A partition without groups is left out.
        sources: the lines of the contexts and of the impressions.
        rejects_files: the files of rejected lines, relative to the dataset.
    """

    partitions: dict[str, PartitionCounts]
    sources: list[SourceCounts]
    rejects_files: list[str]


def write_examples(
    spark: SparkSession,
    lines: CanonicalLines,
    paths: tuple[str, str],
    plan: GroupingPlan,
    num_files: int | None,
) -> Written:
    """Writes the examples of one split below `plan.dataset`, and its rejects; returns what was written.

    Args:
        spark: the session.
        lines: the split's lines.
        paths: where the contexts and the impressions came from, for the manifest and for messages.
        plan: how lines become examples.
        num_files: files per partition; if None, as many as the lines' size asks for.

    Raises:
        InputError: a file has no lines.
        CountMismatchError: a line is neither in the examples nor in the rejects, or wasn't read.
    """
    size, ranges = _size_of(lines), None
    if lines.files is not None:
        ranges = file_ranges(lines.files)
    num_files = num_files or max(_MIN_FILES, -(-size // _BYTES_PER_TASK))
    # Here, not in the tasks: on one host they would all compile at once.
    compile_kernels(plan.spec)
    for folder in [f"{EXAMPLES}/{partition}" for partition in plan.partitions] + [REJECTS]:
        storage.make_directory(storage.join(plan.dataset, folder))
    how = packing(plan.held_out, _BUCKETS_PER_FILE * num_files, len(plan.brought.tasks.names))
    reports = _run_tasks(_packed(spark, lines, ranges, how), plan, num_files)
    if any(report.several_keys for report in reports):
        reports = _run_tasks_with_repeated(spark, lines, plan, num_files)
    read = np.sum([report.read for report in reports], axis=0)
    for (num_lines, *_), path in zip(read, paths, strict=True):
        if num_lines == 0:
            raise InputError(f"{path} is empty: {plan.source} needs lines in it")
    if ranges is not None:
        size -= sum(lines.byte_order_marks) * len(BYTE_ORDER_MARK)
        check_bytes(read, size, len(lines.files or ()))
    partitions, rejects_files = _commit(plan, reports)
    counted = reduce(LineCounts.__add__, (report.lines for report in reports))
    written = Written(partitions, _describe_sources(plan, paths, read, counted), rejects_files)
    for source, marks in zip(written.sources, lines.byte_order_marks, strict=True):
        if marks:
            source.notes[BYTE_ORDER_MARKS] = marks
    check_counts(written)
    return written


def check_counts(written: Written) -> None:
    """Raises CountMismatchError unless lines read = accepted + rejects, and what was accepted is written."""
    for source in written.sources:
        rejected = sum(source.rejects.values())
        if source.lines_read != source.lines_accepted + rejected:
            raise CountMismatchError(
                f"{source.name}: {source.lines_read} lines read, but {source.lines_accepted} accepted and "
                f"{rejected} rejected: a defect, nothing was replaced"
            )
    impressions = sum(counts.impressions for counts in written.partitions.values())
    accepted = written.sources[1].lines_accepted
    if impressions != accepted:
        raise CountMismatchError(
            f"{written.sources[1].name}: {accepted} impressions accepted, but {impressions} in the files: "
            "a defect, nothing was replaced"
        )


def check_bytes(read: Int64s, size: int, num_files: int) -> None:
    """Raises CountMismatchError unless the lines and their line feeds make `size` bytes in `num_files`."""
    num_bytes = int(read[:, 2].sum() + read[:, :2].sum())
    # The last line of a file may end without a line feed.
    if not 0 <= num_bytes - size <= num_files:
        raise CountMismatchError(
            f"the raw files hold {size} bytes, but {num_bytes} were read: they changed meanwhile; "
            "nothing was replaced"
        )


def _size_of(lines: CanonicalLines) -> int:
    """Returns the bytes of all lines, which say how many files there are; without `files`, about so many."""
    if lines.files is not None:
        return sum(os.path.getsize(path) for path, _ in lines.files)
    frames = zip((lines.contexts, lines.impressions), lines.num_bytes, strict=True)
    uncounted = [frame.select("line") for frame, num_bytes in frames if num_bytes is None]
    found = 0
    if uncounted:
        every = reduce(DataFrame.unionByName, uncounted)
        with step(every.sparkSession, "measure the lines"):
            found = every.agg(F.sum(F.octet_length("line"))).collect()[0][0] or 0
    return int(found) + sum(num_bytes or 0 for num_bytes in lines.num_bytes)


def _all_lines(lines: CanonicalLines, repeated: DataFrame | None) -> DataFrame:
    """Returns columns `line` and `kind`; `repeated` as for `mark_kinds`."""
    return _contexts(lines).unionByName(mark_kinds(lines.impressions, repeated))


def _packed(
    spark: SparkSession, lines: CanonicalLines, ranges: Sequence[FileRange] | None, how: Packing
) -> DataFrame:
    """Returns all lines, packed by what reads them with the least trouble."""
    if ranges is not None:
        return pack_files(spark, ranges, how)
    if lines.tasks is not None:
        return pack_frame(_contexts(lines), how).unionByName(pack_tasks(spark, lines.tasks, how))
    return pack_frame(_all_lines(lines, None), how)


def _contexts(lines: CanonicalLines) -> DataFrame:
    return lines.contexts.select("line", F.lit(CONTEXT).alias("kind"))


def _run_tasks(packed: DataFrame, plan: GroupingPlan, num_files: int) -> list[GroupingReport]:
    """Runs the pass; returns the report of each task, in their order."""

    def group(batches: Iterable[pa.RecordBatch], attempt: Attempt) -> GroupingReport:
        return group_partition(batches, attempt, plan)

    name = f"group the lines of {plan.source}"
    return run_partitions(sort_lines(packed, num_files), name, num_files, group, GroupingReport)


def _run_tasks_with_repeated(
    spark: SparkSession, lines: CanonicalLines, plan: GroupingPlan, num_files: int
) -> list[GroupingReport]:
    """Runs the pass where ids stand under several contexts."""
    folder = storage.join(plan.dataset, f"repeated-{plan.source}")
    # Written, not kept as a plan: it is used once, but Spark knows a file's size and broadcasts it if it is
    # small.
    with step(spark, "look for impressions of several contexts"):
        find_repeated(lines, plan, num_files).write.parquet(filesystems.spark_path(folder))
    repeated = spark.read.schema("id string, key string").parquet(filesystems.spark_source(folder))
    packed = pack_frame(_all_lines(lines, repeated), packing(plan.held_out, 0, len(plan.brought.tasks.names)))
    reports = _run_tasks(packed, plan, num_files)
    storage.delete(folder)
    return reports


def _commit(
    plan: GroupingPlan, reports: list[GroupingReport]
) -> tuple[dict[str, PartitionCounts], list[str]]:
    """Gives reported files their final names, deletes all others.

    Returns:
        The partitions' counts, and the files of rejects.
    """
    parts: dict[str, list[PartitionCounts]] = {}
    kept = set()
    for report in reports:
        for partition, counts in report.partitions.items():
            (file,) = counts.files
            file.path = keep_attempt(plan.dataset, file.path, plan.dataset)
            kept.add(file.path)
            parts.setdefault(partition, []).append(counts)
        if report.rejects_file is not None:
            kept.add(keep_attempt(plan.dataset, report.rejects_file, plan.dataset))
    if not any(path.startswith(f"{REJECTS}/") for path in kept):
        path = f"{REJECTS}/{plan.source}-none.parquet"
        write_empty_rejects(plan.dataset, path)
        kept.add(path)
    for folder in [f"{EXAMPLES}/{partition}" for partition in plan.partitions] + [REJECTS]:
        own = {path.removeprefix(f"{folder}/") for path in kept}
        # Other splits have their rejects in the same folder.
        prefix = f"{plan.source}-" if folder == REJECTS else ""
        delete_others(storage.join(plan.dataset, folder), own, prefix)
    counted = {partition: add_counts(counts) for partition, counts in parts.items()}
    return counted, sorted(path for path in kept if path.startswith(f"{REJECTS}/"))


def _describe_sources(
    plan: GroupingPlan, paths: tuple[str, str], read: Int64s, counted: LineCounts
) -> list[SourceCounts]:
    """Returns the counts of contexts and impressions."""
    sources, reasons = [], reason_names(plan.brought.tasks)
    for kind, suffix in enumerate((CONTEXT_SOURCE, IMPRESSION_SOURCE)):
        by_reason = counted.by_reason[kind]
        num_lines, blank_lines, _ = map(int, read[kind])
        notes = {"blank_lines": blank_lines, "unknown_tokens": counted.unknown_tokens[kind]}
        if kind == 0:
            notes[CUT_TOKENS] = counted.cut_tokens
            notes["contexts_without_impressions"] = counted.idle_contexts
        sources.append(
            SourceCounts(
                name=f"{plan.source}.{suffix}",
                path=paths[kind],
                lines_read=num_lines,
                lines_accepted=by_reason[ACCEPTED],
                rejects={
                    reasons[reason]: count for reason, count in enumerate(by_reason) if reason and count
                },
                notes={note: count for note, count in notes.items() if count},
            )
        )
    return sources
