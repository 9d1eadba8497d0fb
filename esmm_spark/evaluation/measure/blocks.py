"""Serializes columns of numbers between Spark tasks: blocks of bytes, one record per block.

Spark shuffles and sorts a few thousand blocks instead of millions of impressions, see docs/decisions/009.
A block is its columns one after the other; its number of impressions follows from its size.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from esmm_spark.evaluation.kernels import scratch

BLOCKS_DDL = "part int, kind int, source bigint, block binary"
BLOCKS_SCHEMA = pa.schema(
    [
        pa.field("part", pa.int32()),
        pa.field("kind", pa.int32()),
        pa.field("source", pa.int64()),
        pa.field("block", pa.binary()),
    ]
)

_Dtypes = Sequence[Any]  # the dtypes of a block's columns

_FLUSH_BYTES = 6 << 20


class ColumnBlock(NamedTuple):
    """Columns of numbers that travel together.

    Attributes:
        part: who gets it.
        kind: what they are of.
        source: where it comes from: blocks of a part and kind are read in this order.
        content: the columns.
    """

    part: int
    kind: int
    source: int
    content: Any


def pack(columns: Sequence[Any]) -> bytes:
    """Returns the columns as one block; all must have the same length."""
    return b"".join(np.ascontiguousarray(column).data for column in columns)


def split(columns: Sequence[Any], parts: Any, num_parts: int) -> Iterator[tuple[int, bytes]]:
    """Yields (part, block) of each part that has any, in their order.

    Args:
        columns: [N] each.
        parts: [N], the part that each goes to.
        num_parts: all parts are below.
    """
    # Of 16 bits numpy sorts by radix.
    keys = parts.astype(np.uint16 if num_parts <= 1 << 16 else np.uint32)
    order = np.argsort(keys, kind="stable")
    ordered = [np.take(column, order) for column in columns]
    ends = np.cumsum(np.bincount(keys, minlength=num_parts)) if len(keys) else np.zeros(0, int)
    start = 0
    for part, end in enumerate(ends.tolist()):
        if end > start:
            yield part, pack([column[start:end] for column in ordered])
        start = end


class JoinedBlocks:
    """The columns of many blocks of one layout, joined: in memory, or in files where they are too many.

    Args:
        layout: the columns' types.
        memory_bytes: what may be held in memory, by default scratch.MEMORY_BYTES.
    """

    def __init__(self, layout: _Dtypes, memory_bytes: int | None = None) -> None:
        self._types = [np.dtype(kind) for kind in layout]
        self._item_bytes = sum(kind.itemsize for kind in self._types)
        self._memory_bytes = scratch.MEMORY_BYTES if memory_bytes is None else memory_bytes
        self._blocks: list[Any] = []
        self._held = 0
        self._files: list[Any] = []
        self.length = 0

    def add(self, content: Any) -> None:
        """Adds a block."""
        size = memoryview(content).nbytes
        assert size % self._item_bytes == 0, (size, self._item_bytes)
        self.length += size // self._item_bytes
        self._blocks.append(content)
        self._held += size
        if self._held > self._memory_bytes:
            self._spill()

    def columns(self) -> list[Any]:
        """Returns the columns, [length] each. No more blocks may be added."""
        if self._files:
            self._spill()
            pairs = zip(self._files, self._types, strict=True)
            columns = [scratch.mapped(file, kind, self.length) for file, kind in pairs]
            for file in self._files:
                file.close()
            return columns
        pieces = [self._columns_of(content) for content in self._blocks]
        empty = [[np.empty(0, kind) for kind in self._types]]
        return [np.concatenate(column) for column in zip(*(empty + pieces), strict=True)]

    def _spill(self) -> None:
        if not self._files:
            self._files = [scratch.open_file() for _ in self._types]
        for content in self._blocks:
            for file, column in zip(self._files, self._columns_of(content), strict=True):
                file.write(column.data)
        for file in self._files:
            file.flush()
        self._blocks, self._held = [], 0

    def _columns_of(self, content: Any) -> list[Any]:
        count = memoryview(content).nbytes // self._item_bytes
        columns, start = [], 0
        for kind in self._types:
            columns.append(np.frombuffer(content, kind, count, start))
            start += count * kind.itemsize
        return columns


def to_batches(blocks: Iterable[ColumnBlock]) -> Iterator[pa.RecordBatch]:
    """Yields the blocks as Arrow batches of some megabytes."""
    pending: list[ColumnBlock] = []
    size = 0
    for block in blocks:
        pending.append(block)
        size += len(block.content)
        if size >= _FLUSH_BYTES:
            yield _batch(pending)
            pending, size = [], 0
    if pending:
        yield _batch(pending)


def parts_of(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, Iterator[ColumnBlock]]]:
    """Yields each part with its blocks, which must be taken before the next part; sorted, as they come."""
    return ((part, blocks) for part, blocks in groupby(_blocks_of(batches), key=lambda block: block.part))


def _blocks_of(batches: Iterable[pa.RecordBatch]) -> Iterator[ColumnBlock]:
    for batch in batches:
        parts, kinds, sources, contents = (batch.column(name) for name in BLOCKS_SCHEMA.names)
        for place in range(batch.num_rows):
            # No copy: the block holds on to its batch.
            content = contents[place].as_buffer()
            yield ColumnBlock(parts[place].as_py(), kinds[place].as_py(), sources[place].as_py(), content)


def _batch(blocks: list[ColumnBlock]) -> pa.RecordBatch:
    columns = zip(*blocks, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, BLOCKS_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=BLOCKS_SCHEMA)
