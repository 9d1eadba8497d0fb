"""Lines of a split to a dataset's examples and rejects: the one pass over the data, and how it is committed.

Each task writes files under names of its own and returns one report (`esmm_spark/attempts.py`). The driver
keeps the files that reports name and deletes the rest. So counts are as right as the files they count.
"""

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

import pyarrow as pa
from pyspark.sql import SparkSession

from esmm_spark import storage
from esmm_spark.attempts import keep_attempt
from esmm_spark.errors import CountMismatchError, InputError
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.logs.reasons import ACCEPTED, REASONS
from esmm_spark.manifest import EXAMPLES, REJECTS, PartitionCounts, SourceCounts, add_counts
from esmm_spark.samples.example_files import write_empty_rejects
from esmm_spark.samples.grouper import compile_kernels
from esmm_spark.samples.plan import GroupingPlan, LineCounts, TaskReport
from esmm_spark.samples.repeated import Scan, find_repeated, mark_kinds, scan_contexts, scan_impressions
from esmm_spark.samples.sorting import sort_lines
from esmm_spark.samples.task import CONTEXT_SOURCE, IMPRESSION_SOURCE, run_task

# A task sorts this much of raw lines, and writes a file of about 0.4 times that.
_BYTES_PER_TASK = 128 << 20
# Ranks share out row groups: so many at least, however little data there is.
_MIN_FILES = 8


class Written(NamedTuple):
    """What came of one split.

    Attributes:
        partitions: `split=train` -> what is in it. A partition without groups is left out.
        sources: the lines of the contexts and of the impressions.
    """

    partitions: dict[str, PartitionCounts]
    sources: list[SourceCounts]


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
        CountMismatchError: a line is neither in the examples nor in the rejects.
    """
    scans = scan_contexts(lines.contexts), scan_impressions(lines.impressions)
    for scan, path in zip(scans, paths, strict=True):
        if scan.lines == 0:
            raise InputError(f"{path} is empty: {plan.source} needs lines in it")
    num_files = num_files or max(_MIN_FILES, -(-sum(scan.bytes for scan in scans) // _BYTES_PER_TASK))
    reports = _run_tasks(spark, lines, scans[1].repeated > 0, plan, num_files)
    partitions = _commit(plan, reports)
    counted = reduce(LineCounts.__add__, (report.lines for report in reports))
    written = Written(partitions, _describe_sources(plan.source, paths, scans, counted))
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


def _run_tasks(
    spark: SparkSession, lines: CanonicalLines, has_repeated: bool, plan: GroupingPlan, num_files: int
) -> list[TaskReport]:
    """Runs the pass; returns the report of each task, in their order."""
    # Here, not in the tasks: on one host they would all compile at once.
    compile_kernels(plan.spec)
    for folder in [f"{EXAMPLES}/{partition}" for partition in plan.partitions] + [REJECTS]:
        storage.make_directory(storage.join(plan.dataset, folder))
    repeated = None
    if has_repeated:
        folder = storage.spark_path(storage.join(plan.dataset, f"repeated-{plan.source}"))
        # Written, not kept as a plan: it is used once, but Spark knows a file's size and broadcasts it if it
        # is small.
        find_repeated(lines, plan.spec, plan.labels_required, num_files).write.parquet(folder)
        repeated = spark.read.schema("id string, key string").parquet(folder)

    def task(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        return run_task(batches, plan)

    rows = (
        sort_lines(
            lines.contexts.where("key is not null"),
            mark_kinds(lines.impressions, repeated),
            num_files,
            plan.held_out,
        )
        .mapInArrow(task, "report string")
        .collect()
    )
    if has_repeated:
        storage.delete(storage.join(plan.dataset, f"repeated-{plan.source}"))
    return sorted(
        (TaskReport.model_validate_json(row.report) for row in rows), key=lambda report: report.task
    )


def _commit(plan: GroupingPlan, reports: list[TaskReport]) -> dict[str, PartitionCounts]:
    """Gives reported files their final names, deletes all others; returns the partitions' counts."""
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
        for name, _ in storage.list_files(storage.join(plan.dataset, folder)):
            is_ours = folder != REJECTS or name.startswith(f"{plan.source}-")
            if is_ours and f"{folder}/{name}" not in kept:
                storage.delete(storage.join(plan.dataset, folder, name))
    return {partition: add_counts(counts) for partition, counts in parts.items()}


def _describe_sources(
    name: str, paths: tuple[str, str], scans: tuple[Scan, Scan], counted: LineCounts
) -> list[SourceCounts]:
    """Returns the counts of contexts and impressions."""
    sources = []
    for kind, suffix in enumerate((CONTEXT_SOURCE, IMPRESSION_SOURCE)):
        by_reason = counted.by_reason[kind]
        notes = {"blank_lines": scans[kind].blank_lines, "unknown_tokens": counted.unknown_tokens[kind]}
        if kind == 0:
            notes["contexts_without_impressions"] = counted.idle_contexts
        sources.append(
            SourceCounts(
                name=f"{name}.{suffix}",
                path=paths[kind],
                lines_read=scans[kind].lines,
                lines_accepted=by_reason[ACCEPTED],
                rejects={
                    REASONS[reason]: count for reason, count in enumerate(by_reason) if reason and count
                },
                notes={note: count for note, count in notes.items() if count},
            )
        )
    return sources
