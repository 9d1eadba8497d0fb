"""One shuffle of raw lines: a group's together, its context first, the groups in random order."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.logs.line_files import BLOCK_BYTES, FileRange, ranges_per_task, read_blocks
from esmm_spark.logs.lines import Lines, lines_of
from esmm_spark.logs.raw_files import LineTasks
from esmm_spark.samples.hashing.held_out import SHARE_STEPS, HeldOut
from esmm_spark.samples.lines.packing import PACKED_COLUMNS, Packing, pack_lines

_MAX_BUCKETS = 4096


def packing(held_out: HeldOut | None, num_buckets: int, num_labels: int) -> Packing:
    """Returns how lines are packed.

    Groups are spread over partitions and sorted within them by a hash of their key, held out groups first.
    That is the order of the examples: the groups of a row group are a random sample, and no second shuffle is
    needed for it.

    Args:
        held_out: the groups that go to another partition of the dataset, if any.
        num_buckets: parts of the hashes of ids, at most 4096; 0 if they aren't asked for.
        num_labels: labels of an impression's line.
    """
    return Packing(
        held_out_prefix=np.frombuffer(held_out.prefix.encode() if held_out else b"", dtype=np.uint8),
        held_out_threshold=held_out.threshold if held_out else 0,
        share_steps=SHARE_STEPS,
        num_buckets=min(num_buckets, _MAX_BUCKETS),
        num_labels=num_labels,
    )


def pack_files(spark: SparkSession, ranges: Sequence[FileRange], how: Packing) -> DataFrame:
    """Returns the lines of local files, packed: columns PACKED_COLUMNS."""
    tasks = ranges_per_task(ranges)

    def read(number: int) -> Iterator[Lines]:
        return (block for span in tasks[number] for block in read_blocks(span))

    return pack_tasks(spark, LineTasks(len(tasks), read), how)


def pack_tasks(spark: SparkSession, tasks: LineTasks, how: Packing) -> DataFrame:
    """Returns the lines that tasks read themselves, packed: columns PACKED_COLUMNS."""

    def pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        numbers = (number.as_py() for batch in batches for number in batch.column("id"))
        return pack_lines((block for number in numbers for block in tasks.read(number)), how)

    return spark.range(0, tasks.number, 1, max(tasks.number, 1)).mapInArrow(pack, PACKED_COLUMNS)


def pack_frame(lines: DataFrame, how: Packing) -> DataFrame:
    """Returns the lines of a DataFrame, packed; it has columns `kind` and `line`."""

    def pack(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return pack_lines(_blocks(batches), how)

    return lines.select(F.col("kind").cast("tinyint"), "line").mapInArrow(pack, PACKED_COLUMNS)


def sort_lines(packed: DataFrame, num_partitions: int) -> DataFrame:
    """Returns packed lines in `num_partitions`, sorted as `LineMerger` wants them."""
    return packed.repartition(num_partitions, "place").sortWithinPartitions("place", "key", "kind", "first")


def _blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[Lines]:
    """Yields the lines of batches, a block's worth at a time."""
    pending: list[pa.RecordBatch] = []
    num_bytes = 0
    for batch in batches:
        pending.append(batch)
        num_bytes += batch.nbytes
        if num_bytes >= BLOCK_BYTES:
            yield _block(pending)
            pending, num_bytes = [], 0
    if pending:
        yield _block(pending)


def _block(batches: list[pa.RecordBatch]) -> Lines:
    if len(batches) == 1:
        return lines_of(batches[0])
    (batch,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return lines_of(batch)
