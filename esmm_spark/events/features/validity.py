"""Cuts entries of catalogs whose validity overlaps: at each time the one that began last holds.

One pass over entries sorted by key. It holds those of one key at a time, and looks one by one alone at those
of keys whose entries overlap, which few do.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esmm_spark.runtime.arrays import Bools, Int64s

# Later than every time.
FOREVER_US = 2**62


class Segments(NamedTuple):
    """Stretches of time in which an entry holds, in order of key and time.

    Attributes:
        place: int64, that of the entry among all.
        start_us, end_us: int64, [start, end).
    """

    place: Int64s
    start_us: Int64s
    end_us: Int64s


def make_disjoint(
    batches: Iterable[pa.RecordBatch], key: str, start: str, end: str
) -> Iterator[pa.RecordBatch]:
    """Yields the entries with times of which no two of one key overlap; one may come several times, or never.

    An entry whose end is null holds until the next later start of its key. Of several that hold at a time,
    that with the latest start does, and of these the last one in order.

    Args:
        batches: sorted by key and start; neither is null.
        key: a string column.
        start: a bigint column.
        end: a bigint column, later than the start or null.

    Example:
        [0, 20) a, [6, 8) b: a holds in [0, 6), b in [6, 8), a again in [8, 20).
    """
    for entries in _whole_keys(batches, key):
        keys = entries.column(key)
        is_first = np.ones(entries.num_rows, dtype=np.bool_)
        is_first[1:] = pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        starts = entries.column(start).to_numpy()
        known = entries.column(end)
        ends = pc.fill_null(known, FOREVER_US).to_numpy()
        is_open = known.is_null().to_numpy(zero_copy_only=False)
        found = segments_of(is_first, starts, np.where(is_open, _next_starts(is_first, starts), ends))
        yield _with_times(entries.take(pa.array(found.place)), {start: found.start_us, end: found.end_us})


def segments_of(is_first: Bools, starts: Int64s, ends: Int64s) -> Segments:
    """Returns when each entry holds.

    Args:
        is_first: bool [entries], whether one is the first of its key.
        starts: int64 [entries], sorted within a key.
        ends: int64 [entries], each later than its start and no part of the time.
    """
    num_entries = len(starts)
    key_starts = np.append(np.flatnonzero(is_first), num_entries)
    overlaps = np.zeros(num_entries, dtype=np.bool_)
    overlaps[1:] = ~is_first[1:] & (ends[:-1] > starts[1:])
    overlapping = np.add.reduceat(overlaps, key_starts[:-1]) if num_entries else np.zeros(0, dtype=np.int64)
    is_plain = np.repeat(overlapping == 0, np.diff(key_starts))
    plain = np.flatnonzero(is_plain)
    parts = [Segments(plain, starts[plain], ends[plain])]
    for number in np.flatnonzero(overlapping):
        first, last = key_starts[number], key_starts[number + 1]
        places, begins, stops = zip(
            *_sweep(starts[first:last].tolist(), ends[first:last].tolist()), strict=True
        )
        parts.append(Segments(np.array(places) + first, np.array(begins), np.array(stops)))
    return Segments(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _sweep(starts: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yields (place, start, end) of one key's segments: at most twice as many as entries."""
    # Entries that hold or will again, the one that began last on top: each ends later than those above it.
    held: list[int] = []
    now = 0
    for place, start in enumerate([*starts, FOREVER_US]):
        while held and now < start:
            end = min(ends[held[-1]], start)
            if end > now:
                yield held[-1], now, end
                now = end
            if ends[held[-1]] <= now:
                held.pop()
        now = start
        if place < len(starts):
            while held and ends[held[-1]] <= ends[place]:
                held.pop()
            held.append(place)


def _next_starts(is_first: Bools, starts: Int64s) -> Int64s:
    """Returns int64 [entries], the next later start of the entry's key, FOREVER_US if there is none."""
    changes = is_first.copy()
    changes[1:] |= starts[1:] != starts[:-1]
    places = np.flatnonzero(changes)
    following = np.full(len(places), FOREVER_US, dtype=np.int64)
    following[:-1] = np.where(is_first[places[1:]], FOREVER_US, starts[places[1:]])
    return np.repeat(following, np.diff(np.append(places, len(starts))))


def _whole_keys(batches: Iterable[pa.RecordBatch], key: str) -> Iterator[pa.RecordBatch]:
    """Yields the same entries, all those of one key together."""
    pending: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows == 0:
            continue
        keys = batch.column(key)
        last = keys[-1]
        # Where the last key of the batch begins.
        begin = pc.index(keys, last).as_py()
        if pending and pending[-1].column(key)[-1] != keys[0]:
            yield _joined(pending)
            pending = []
        if begin > 0:
            yield _joined([*pending, batch.slice(0, begin)])
            pending = []
        pending.append(batch.slice(begin))
    if pending:
        yield _joined(pending)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    (joined,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return joined


def _with_times(entries: pa.RecordBatch, times: dict[str, Int64s]) -> pa.RecordBatch:
    columns = [
        pa.array(times[name]) if name in times else column
        for name, column in zip(entries.schema.names, entries.columns, strict=True)
    ]
    return pa.record_batch(columns, schema=entries.schema)
