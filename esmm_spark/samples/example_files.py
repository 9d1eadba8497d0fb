"""Parquet files of a dataset, written by the tasks themselves: examples in even row groups, and rejects.

pyarrow writes them, not Spark: it cuts row groups where it is told to, and the columns go to Parquet without
a detour over rows of the JVM.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmm_spark.contracts.manifest import ExamplesFile, PartitionCounts, add_counts
from esmm_spark.contracts.sample_config import Compression
from esmm_spark.contracts.schemas.columns import REJECT_COLUMNS
from esmm_spark.files import filesystems, storage
from esmm_spark.files.examples_file import BlockStream
from esmm_spark.files.schemas import arrow_schema
from esmm_spark.runtime.arrays import Int64s
from esmm_spark.samples.grouping.batches import group_bytes

REJECTS_SCHEMA = arrow_schema(REJECT_COLUMNS)

_ZSTD_LEVEL = 1
# Text, written once in a while and hardly ever read.
_REJECTS_COMPRESSION: Compression = "zstd"
_REJECTS_BYTES = 8 << 20


class ExamplesWriter:
    """One file of examples, in row groups of about `row_group_bytes`.

    All but the last two row groups hold as many groups as make `row_group_bytes` in memory. If what is left
    is more than that, it makes two row groups of one size, so that none is much smaller than others. No
    groups, no file.
    """

    def __init__(
        self, dataset: str, path: str, schema: pa.Schema, row_group_bytes: int, compression: Compression
    ) -> None:
        """`path` is relative to the folder `dataset`. Its folder must be there."""
        self._dataset, self._path, self._schema = dataset, path, schema
        self._row_group_bytes, self._compression = row_group_bytes, compression
        # Lists of nothing else are bytes.
        self._tasks = [field.name for field in schema if field.type == pa.list_(pa.int8())]
        self._writer: pq.ParquetWriter | None = None
        self._stream: Any = None
        self._blocks: BlockStream | None = None
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes: list[Int64s] = []
        self._counts: list[PartitionCounts] = []

    def write(self, examples: pa.RecordBatch) -> None:
        """Adds groups."""
        self._counts.append(_count(examples, self._tasks))
        self._pending.append(examples)
        self._pending_bytes.append(group_bytes(examples))
        self._write_row_groups(at_end=False)

    def close(self) -> PartitionCounts | None:
        """Completes the file; returns what is in it, or None where there was nothing to write."""
        self._write_row_groups(at_end=True)
        if self._writer is None or self._blocks is None:
            return None
        self._writer.close()
        # The footer.
        self._blocks.end_block()
        self._stream.close()
        file = describe_file(self._dataset, self._path)
        counts = add_counts(self._counts)
        written = sum(file.groups), sum(file.impressions)
        assert written == (counts.groups, counts.impressions), (file, counts)
        file.num_bytes, file.checksums = self._blocks.num_bytes, self._blocks.checksums
        assert len(file.blocks) == len(file.groups) + 1, file
        counts.files = [file]
        return counts

    def _write_row_groups(self, at_end: bool) -> None:
        if not self._pending or (not at_end and self._num_bytes() < 2 * self._row_group_bytes):
            return
        table = pa.Table.from_batches(self._pending, self._schema)
        ends = np.cumsum(np.concatenate(self._pending_bytes))
        start = 0
        for end in _cuts(ends, self._row_group_bytes, at_end):
            self._write_row_group(table.slice(start, end - start))
            start = end
        rest = table.slice(start)
        self._pending = rest.to_batches()
        self._pending_bytes = [np.diff(ends, prepend=0)[start:]] if rest.num_rows else []

    def _num_bytes(self) -> int:
        return sum(int(sizes.sum()) for sizes in self._pending_bytes)

    def _write_row_group(self, table: pa.Table) -> None:
        if self._writer is None or self._blocks is None:
            self._stream = _open(self._dataset, self._path)
            self._blocks = BlockStream(self._stream)
            self._writer = _writer(self._blocks, self._schema, self._compression)
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._blocks.end_block()


class RejectsWriter:
    """One file of rejected lines. No lines, no file."""

    def __init__(self, dataset: str, path: str) -> None:
        """`path` is relative to the folder `dataset`. Its folder must be there."""
        self._dataset, self._path = dataset, path
        self._pending: list[pa.RecordBatch] = []
        self._writer: pq.ParquetWriter | None = None
        self._stream: Any = None

    def write(self, rejects: pa.RecordBatch) -> None:
        """Adds lines, as REJECTS_SCHEMA has them."""
        if rejects.num_rows > 0:
            self._pending.append(rejects)
            if sum(batch.nbytes for batch in self._pending) > _REJECTS_BYTES:
                self._flush()

    def close(self) -> str | None:
        """Completes the file; returns its path, or None where there was nothing to write."""
        self._flush()
        if self._writer is None:
            return None
        self._writer.close()
        self._stream.close()
        return self._path

    def _flush(self) -> None:
        if self._pending:
            if self._writer is None:
                self._stream = _open(self._dataset, self._path)
                self._writer = _writer(self._stream, REJECTS_SCHEMA, _REJECTS_COMPRESSION)
            self._writer.write_table(pa.Table.from_batches(self._pending, REJECTS_SCHEMA))
            self._pending = []


def describe_file(dataset: str, path: str) -> ExamplesFile:
    """Returns the row groups of an examples file as its footer tells them; `path` is below `dataset`."""
    filesystem, full_path = filesystems.filesystem_of(storage.join(dataset, path))
    with filesystem.open_input_file(full_path) as file:
        return examples_file_of(path, pq.read_metadata(file))


def examples_file_of(path: str, metadata: pq.FileMetaData) -> ExamplesFile:
    """Returns the row groups of the examples file `path` of which `metadata` is the footer."""
    ids = next(
        column
        for column in range(metadata.num_columns)
        if metadata.schema.column(column).path.startswith("impression_id.")
    )
    row_groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    return ExamplesFile(
        path=path,
        groups=[row_group.num_rows for row_group in row_groups],
        # A list column's values: no group is without impressions, so nothing else is counted among them.
        impressions=[row_group.column(ids).num_values for row_group in row_groups],
    )


def write_empty_rejects(dataset: str, path: str) -> None:
    """Writes a file of no rejects, so that the folder can be read whether there are any or not."""
    with _open(dataset, path) as stream:
        _writer(stream, REJECTS_SCHEMA, _REJECTS_COMPRESSION).close()


def _open(dataset: str, path: str) -> pa.NativeFile:
    filesystem, full_path = filesystems.filesystem_of(storage.join(dataset, path))
    return filesystem.open_output_stream(full_path)


def _writer(
    stream: pa.NativeFile | BlockStream, schema: pa.Schema, compression: Compression
) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        stream,
        schema,
        # pyarrow's "lz4" is Parquet's LZ4_RAW, which Spark reads, not the older, ambiguous LZ4.
        compression=compression,
        compression_level=_ZSTD_LEVEL if compression == "zstd" else None,
        # Arena rows and ids hardly repeat within a row group: dictionaries took 40% of the time, and 14% more
        # bytes.
        use_dictionary=False,
        # Nor do they lie in an order: their least and greatest would rule no row group out.
        write_statistics=False,
        store_schema=False,
    )


def _cuts(ends: Int64s, row_group_bytes: int, at_end: bool) -> Iterator[int]:
    """Yields the group behind each row group; `ends` [G] are the bytes up to and with each group."""
    start_bytes, total = 0, int(ends[-1])
    # Two stay pending until the end is known: the last row group is never a small rest.
    while total - start_bytes >= 2 * row_group_bytes:
        behind = int(np.searchsorted(ends, start_bytes + row_group_bytes)) + 1
        start_bytes = int(ends[behind - 1])
        yield behind
    if not at_end or start_bytes == total:
        return
    if total - start_bytes > row_group_bytes:
        behind = int(np.searchsorted(ends, (start_bytes + total) // 2)) + 1
        if behind < len(ends):
            yield behind
    yield len(ends)


def _count(examples: pa.RecordBatch, tasks: Sequence[str]) -> PartitionCounts:
    """Returns what the groups hold, without their file."""

    def flat(name: str) -> pa.Array:
        return examples.column(name).flatten()

    labels = {task: flat(task) for task in tasks}
    return PartitionCounts(
        groups=examples.num_rows,
        impressions=len(flat("impression_id")),
        positives={task: pc.sum(of_task).as_py() or 0 for task, of_task in labels.items()},
        unknown={task: of_task.null_count for task, of_task in labels.items() if of_task.null_count},
        context_tokens=len(flat("context_rows")),
        impression_tokens=len(flat("impression_rows")),
        group_hash_sum=int(examples.column("group_hash").to_numpy().sum()),
        files=[],
    )
