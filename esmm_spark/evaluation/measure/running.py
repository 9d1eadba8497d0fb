"""An evaluation's Spark job: read by id, align, sum by score and by group, in two shuffles of blocks.

spans -> read_share -> blocks by range of ids -> align_part -> blocks by range of scores or of groups
-> rank_part, group_part -> vectors
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from esmm_spark.evaluation.measure.alignment import align_part
from esmm_spark.evaluation.measure.blocks import BLOCKS_DDL, ColumnBlock, parts_of, to_batches
from esmm_spark.evaluation.measure.inputs import Source
from esmm_spark.evaluation.measure.layout import NOTES_ON, Job
from esmm_spark.evaluation.measure.plan import Span, num_parts
from esmm_spark.evaluation.measure.reading import read_share
from esmm_spark.evaluation.measure.sides import SideColumns, side_columns
from esmm_spark.evaluation.measure.summing import Vector, group_part, rank_part
from esmm_spark.spark.shares import balanced_shares

_VECTORS_DDL = "part int, key string, values binary"
_NOTE = "note"
# Parts differ in size: with so many tasks per core the last ones don't keep a core waiting for long.
_TASKS_PER_CORE = 3


@dataclass(frozen=True)
class Results:
    """The results of all tasks.

    Attributes:
        notes: of those that read and those that align.
        vectors: by part, parts ascending.
    """

    notes: list[dict[str, Any]]
    vectors: list[Vector]


def run_job(spark: SparkSession, sources: Mapping[str, Source], job: Job) -> Results:
    """Runs the job; what each task holds is in memory or files of bounded size, whatever the inputs'.

    Args:
        spark: the session.
        sources: series -> its files.
        job: what is evaluated.

    Raises:
        InputError: a file is damaged.
    """
    cores = spark.sparkContext.defaultParallelism
    shares = read_tasks(sources, job, cores)

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column("id").to_pylist():
                share, columns = shares[task]
                yield from to_batches(read_share(share, columns, job.id_parts, task))

    def align(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _each_part(batches, lambda part, blocks: align_part(part, blocks, job))

    def sum_up(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part, blocks in parts_of(batches):
            yield vector_batch(part_vectors(part, blocks, job))

    tasks = spark.range(0, len(shares), 1, len(shares))
    by_id = _sorted(tasks.mapInArrow(read, BLOCKS_DDL), job.id_parts)
    summing = min(job.num_parts, max(_TASKS_PER_CORE * cores, job.num_parts // 3))
    by_score = _sorted(by_id.mapInArrow(align, BLOCKS_DDL), summing)
    table = by_score.mapInArrow(sum_up, _VECTORS_DDL).toArrow()
    return results_of(table)


def read_tasks(
    sources: Mapping[str, Source], job: Job, at_least: int
) -> list[tuple[list[Span], SideColumns]]:
    """Returns what each task reads of which side.

    Args:
        sources: series -> its files.
        job: what is evaluated.
        at_least: tasks of each side, where it has as many row groups.
    """
    return [
        (share, side_columns(series, job.tasks))
        for series, source in sources.items()
        for share in balanced_shares(
            source.spans, lambda span: span.num_impressions, max(at_least, num_parts(source.num_impressions))
        )
    ]


def _sorted(blocks: DataFrame, partitions: int) -> DataFrame:
    """Returns the blocks shuffled, each part's together and in one order, whatever order tasks end in."""
    return blocks.repartition(partitions, "part").sortWithinPartitions("part", "kind", "source")


def _each_part(
    batches: Iterable[pa.RecordBatch], function: Callable[[int, Iterator[ColumnBlock]], Iterator[ColumnBlock]]
) -> Iterator[pa.RecordBatch]:
    for part, blocks in parts_of(batches):
        yield from to_batches(function(part, blocks))


def part_vectors(part: int, blocks: Iterator[ColumnBlock], job: Job) -> Iterator[Vector]:
    """Yields a part's results, and the notes of tasks before it as they are."""
    notes: list[ColumnBlock] = []

    def blocks_of_part() -> Iterator[ColumnBlock]:
        for block in blocks:
            if block.kind == NOTES_ON:
                notes.append(block)
            else:
                yield block

    function = rank_part if part < job.first_group_part else group_part
    yield from function(part, blocks_of_part(), job)
    for note in notes:
        yield Vector(part, _NOTE, np.frombuffer(note.content, np.uint8))


def vector_batch(vectors: Iterable[Vector]) -> pa.RecordBatch:
    """Returns a record per vector, by `_VECTORS_DDL`."""
    parts, keys, values = [], [], []
    for vector in vectors:
        parts.append(vector.part)
        keys.append(vector.key)
        values.append(vector.values.tobytes())
    arrays = [pa.array(parts, pa.int32()), pa.array(keys, pa.string()), pa.array(values, pa.binary())]
    return pa.RecordBatch.from_arrays(arrays, names=["part", "key", "values"])


def results_of(table: pa.Table) -> Results:
    """Returns what the records of `vector_batch` hold."""
    notes, vectors = [], []
    for record in table.sort_by([("part", "ascending")]).to_pylist():
        if record["key"] == _NOTE:
            notes.append(json.loads(record["values"]))
        else:
            vectors.append(Vector(record["part"], record["key"], np.frombuffer(record["values"])))
    return Results(notes, vectors)
