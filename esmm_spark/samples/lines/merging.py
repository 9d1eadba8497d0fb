"""Reduce side of the shuffle: a streaming merge of packed records into sorted lines, in bounded memory."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from esmm_spark.logs.compiling import allocating_kernel, kernel
from esmm_spark.logs.lines import Lines, lines_at
from esmm_spark.runtime.arrays import Bytes, Int8s, Int64s
from esmm_spark.runtime.byte_kernels import compare_bytes, same_bytes
from esmm_spark.runtime.texts import text_memory
from esmm_spark.samples.lines.ids import IdTable
from esmm_spark.samples.lines.order import sort_range
from esmm_spark.samples.lines.packing import ID_HASHES, LINE_COUNTS


class LineMerger:
    """Streaming merge of a shuffle partition's records into sorted lines, for `group_lines`.

    Records come sorted by place, key, kind and first line, and records of one key and kind may overlap. Those
    of the last key and kind are held back: of them, what stands before the newest record's first line is
    given out, so that no more is held than records overlap.

    Attributes:
        read: int64 [2, 3], the LINE_COUNTS that came along: lines, blank lines and bytes of each kind.
        ids: the ID_HASHES that came along.
    """

    def __init__(self) -> None:
        self.read = np.zeros((2, 3), dtype=np.int64)
        self.ids = IdTable()
        self._held: list[Lines] = []
        self._held_key: tuple[bytes, int] | None = None

    def take(self, batch: pa.RecordBatch) -> Iterator[Lines]:
        """Adds records of `packing.PACKED_COLUMNS`; yields the lines that none to come can precede."""
        kinds = batch.column("kind").to_numpy()
        special = np.flatnonzero(kinds >= ID_HASHES)
        if len(special):
            for record in map(int, special):
                self._take_special(int(kinds[record]), _text_at(batch.column("data"), record))
            rest = pa.array(kinds < ID_HASHES)
            batch = pa.record_batch([column.filter(rest) for column in batch.columns], schema=batch.schema)
        if batch.num_rows == 0:
            return
        lines, record_lines = unpack_lines(batch)
        runs = find_runs(*_offsets_and_bytes(batch.column("key")), batch.column("kind").to_numpy())
        first_key, last_key = _key_at(batch, 0), _key_at(batch, -1)
        first = 0
        if first_key == self._held_key:
            first = 1
            self._hold(lines, 0, int(record_lines[runs[1]]))
        if first == 0 or len(runs) > 2:
            yield from self.finish()
        last = len(runs) - 2
        if first <= last:
            start, end = int(record_lines[runs[first]]), int(record_lines[runs[last]])
            if end > start:
                yield _sorted(_slice(lines, start, end), record_lines[runs[first : last + 1]] - start)
            self._hold(lines, end, len(lines.starts))
            self._held_key = last_key
        else:
            yield from self._give_out(_text_at(batch.column("first"), batch.num_rows - 1))

    def finish(self) -> Iterator[Lines]:
        """Yields the lines that are still held."""
        if self._held:
            yield self._merge_held()
        self._held, self._held_key = [], None

    def _hold(self, lines: Lines, start: int, end: int) -> None:
        """Holds a copy of `lines[start:end]`, which are a part of one key's."""
        self._held.append(copy_lines(_slice(lines, start, end)))

    def _merge_held(self) -> Lines:
        offsets = np.cumsum([0] + [len(part.data) for part in self._held[:-1]])
        merged = lines_at(
            np.concatenate([part.data for part in self._held]),
            np.concatenate([part.starts + offset for part, offset in zip(self._held, offsets, strict=True)]),
            np.concatenate([part.ends + offset for part, offset in zip(self._held, offsets, strict=True)]),
            np.concatenate([part.kind for part in self._held]),
        )
        return _sorted(merged, np.array([0, len(merged.starts)], dtype=np.int64))

    def _give_out(self, first: bytes) -> Iterator[Lines]:
        """Yields the held lines that are less than `first`, which no line to come is."""
        merged = self._merge_held()
        end = count_below(merged, np.frombuffer(first, dtype=np.uint8))
        if end > 0:
            yield _slice(merged, 0, end)
        self._held = [copy_lines(_slice(merged, end, len(merged.starts)))]

    def _take_special(self, kind: int, text: bytes) -> None:
        numbers = np.frombuffer(text, dtype=np.int64)
        if kind == LINE_COUNTS:
            self.read += numbers.reshape(2, 3)
        else:
            self.ids.add(numbers.reshape(-1, 2))


def merged_lines(batches: Iterable[pa.RecordBatch], merger: LineMerger) -> Iterator[Lines]:
    """Yields the lines of one partition's records."""
    for batch in batches:
        yield from merger.take(batch)
    yield from merger.finish()


def unpack_lines(batch: pa.RecordBatch) -> tuple[Lines, Int64s]:
    """Returns the lines of all records and int64 [records + 1], where among them each record's begin."""
    record_starts, data = _offsets_and_bytes(batch.column("data"))
    places_offsets, places_bytes = _offsets_and_bytes(batch.column("places"))
    record_lines = (places_offsets - places_offsets[0]) // 8
    places = np.frombuffer(
        places_bytes, dtype=np.int32, offset=int(places_offsets[0]), count=2 * int(record_lines[-1])
    ).reshape(-1, 2)
    num_lines = np.diff(record_lines)
    bases = np.repeat(record_starts[:-1], num_lines)
    kinds = np.repeat(batch.column("kind").to_numpy(), num_lines)
    return lines_at(data, places[:, 0] + bases, places[:, 1] + bases, kinds), record_lines


def copy_lines(lines: Lines) -> Lines:
    """Returns the lines in bytes of their own."""
    low, high = (int(lines.starts.min()), int(lines.ends.max())) if len(lines.starts) else (0, 0)
    return lines_at(lines.data[low:high].tobytes(), lines.starts - low, lines.ends - low, lines.kind.copy())


def _sorted(lines: Lines, run_starts: Int64s) -> Lines:
    """Returns the lines, sorted by bytes within each run; `run_starts` is int64 [runs + 1]."""
    order = sort_runs(lines, run_starts)
    return lines_at(lines.data, lines.starts[order], lines.ends[order], lines.kind)


def _slice(lines: Lines, start: int, end: int) -> Lines:
    return lines_at(lines.data, lines.starts[start:end], lines.ends[start:end], lines.kind[start:end])


def _offsets_and_bytes(column: pa.StringArray) -> tuple[Int64s, Bytes]:
    """Returns int64 [strings + 1] and uint8: what an Arrow column of strings is made of."""
    data, offsets = text_memory(column)
    return offsets.astype(np.int64), data


def _text_at(column: pa.StringArray, record: int) -> bytes:
    offsets, data = _offsets_and_bytes(column.slice(record, 1))
    return data[offsets[0] : offsets[1]].tobytes()


def _key_at(batch: pa.RecordBatch, record: int) -> tuple[bytes, int]:
    record %= batch.num_rows
    return _text_at(batch.column("key"), record), batch.column("kind")[record].as_py()


@allocating_kernel
def find_runs(key_offsets: Int64s, keys: Bytes, kind: Int8s) -> Int64s:
    """Returns int64 [runs + 1], the record where each run of one key and one kind begins."""
    num_records = kind.shape[0]
    runs = np.empty(num_records + 1, dtype=np.int64)
    num_runs = 0
    for record in range(num_records):
        start, end = key_offsets[record], key_offsets[record + 1]
        if (
            record == 0
            or kind[record] != kind[record - 1]
            or not same_bytes(keys, start, end, keys, key_offsets[record - 1], start)
        ):
            runs[num_runs] = record
            num_runs += 1
    runs[num_runs] = num_records
    return runs[: num_runs + 1].copy()


@allocating_kernel
def sort_runs(lines: Lines, run_starts: Int64s) -> Int64s:
    """Returns int64 [lines], the order that sorts the lines of each run by their bytes."""
    num_lines = lines.starts.shape[0]
    order, scratch = np.arange(num_lines), np.empty(num_lines, dtype=np.int64)
    no_key = np.zeros(num_lines, dtype=np.int64)
    for run in range(run_starts.shape[0] - 1):
        sort_range(order, run_starts[run], run_starts[run + 1], lines, no_key, no_key, scratch)
    return order


@kernel
def count_below(lines: Lines, first: Bytes) -> int:
    """Returns how many of the sorted lines are less than `first`."""
    for line in range(lines.starts.shape[0]):
        if compare_bytes(lines.data, lines.starts[line], lines.ends[line], first, 0, first.shape[0]) >= 0:
            return line
    return int(lines.starts.shape[0])
