"""Map side of the shuffle: packs lines of one group key and kind into one shuffle record.

So Spark moves and sorts a record for each context and one for its impressions, not one for each line. Nothing
depends on how lines are packed: a log in any order gives the same result, from smaller records.

A record, besides `place`, `key` and `kind`:

    first   the first bytes of its first line: records of one key and kind are sorted by it
    data    bytes that hold its lines
    places  int32 [lines, 2], where each begins and ends in `data`

Records of two more kinds, which have neither a key nor a first line, go with them: ID_HASHES, int64 [n, 2],
the hashes of an impression's id and of its key, and LINE_COUNTS, what was read.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from esmm_spark.logs.aliccp import trim
from esmm_spark.logs.compiling import allocating_kernel
from esmm_spark.logs.lines import CONTEXT, Lines, lines_at
from esmm_spark.runtime.arrays import Bools, Bytes, Int32s, Int64s
from esmm_spark.runtime.byte_kernels import same_bytes
from esmm_spark.samples.lines.keys import LOWEST, LineKeys, hash_line_keys
from esmm_spark.samples.lines.order import sort_range

ID_HASHES, LINE_COUNTS = 3, 4
PACKED_COLUMNS = "place bigint, key string, kind tinyint, first string, data string, places string"

# Lines of a record, unless a single line is longer. Records that overlap are held in memory to be merged.
_RECORD_BYTES = 64 << 10
_FIRST_BYTES = 24


class Packing(NamedTuple):
    """The parameters of `pack_lines`.

    Attributes:
        held_out_prefix: what stands before a key in the text whose hash decides whether it is held out.
        held_out_threshold: as `HeldOut.threshold`; 0 if nothing is.
        share_steps: SHARE_STEPS.
        num_buckets: parts into which the hashes of ids are cut; 0 if they aren't asked for.
        num_labels: labels of an impression's line.
    """

    held_out_prefix: Bytes
    held_out_threshold: int
    share_steps: int
    num_buckets: int
    num_labels: int


def pack_lines(blocks: Iterable[Lines], packing: Packing) -> Iterator[pa.RecordBatch]:
    """Yields the records of all lines that aren't blank, and one that says how many were read."""
    counts = np.zeros((2, 3), dtype=np.int64)
    for block in blocks:
        blank = blank_lines(block)
        is_context = block.kind == CONTEXT
        for kind, chosen in ((0, is_context), (1, ~is_context)):
            counts[kind] += (
                int((chosen & ~blank).sum()),
                int((chosen & blank).sum()),
                int((block.ends - block.starts)[chosen].sum()),
            )
        lines = block
        if blank.any():
            places = np.flatnonzero(~blank)
            lines = lines_at(block.data, block.starts[places], block.ends[places], block.kind[places])
        if len(lines.starts):
            yield from _pack_block(lines, packing)
    yield _special_records(LINE_COUNTS, [LOWEST], [counts.tobytes()])


def _pack_block(lines: Lines, packing: Packing) -> Iterator[pa.RecordBatch]:
    line_keys = hash_line_keys(
        lines,
        packing.num_labels,
        packing.held_out_prefix,
        packing.held_out_threshold,
        packing.share_steps,
    )
    if packing.num_buckets:
        yield from _id_hashes(lines, line_keys, packing.num_buckets)
    order = order_lines(lines, line_keys)
    records = cut_records(lines, line_keys, order, _RECORD_BYTES)
    firsts = order[records[:-1]]
    in_place = _is_in_place(lines, order)
    copied, places, record_starts = concatenate_records(lines, order, records, in_place)
    first_ends = np.minimum(lines.starts[firsts] + _FIRST_BYTES, lines.ends[firsts])
    columns = [
        pa.array(line_keys.place[firsts]),
        texts_at(lines.data, line_keys.key_starts[firsts], line_keys.key_ends[firsts]),
        pa.array(lines.kind[firsts]),
        texts_at(lines.data, lines.starts[firsts], first_ends),
        _strings(lines.data if in_place else copied, record_starts),
        _strings(places.reshape(-1).view(np.uint8), 8 * records),
    ]
    yield pa.record_batch(columns, names=_NAMES)


_NAMES = [column.split()[0] for column in PACKED_COLUMNS.split(", ")]


def _is_in_place(lines: Lines, order: Int64s) -> bool:
    """Returns whether the lines follow each other in their data as they do in `order`."""
    return bool((np.diff(order) == 1).all() and (lines.starts[1:] >= lines.ends[:-1]).all())


def _id_hashes(lines: Lines, line_keys: LineKeys, num_buckets: int) -> Iterator[pa.RecordBatch]:
    """Yields the impressions' ID_HASHES, bucket by bucket."""
    impressions = np.flatnonzero(lines.kind != CONTEXT)
    if len(impressions) == 0:
        return
    buckets = (line_keys.id_hash[impressions] % num_buckets).astype(np.int16)
    by_bucket = impressions[np.argsort(buckets, kind="stable")]
    pairs = np.stack([line_keys.id_hash[by_bucket], line_keys.key_hash[by_bucket]], axis=1)
    ends = np.cumsum(np.bincount(buckets, minlength=num_buckets))
    places, texts, start = [], [], 0
    for bucket, end in enumerate(map(int, ends)):
        if end > start:
            places.append(LOWEST + bucket)
            texts.append(pairs[start:end].tobytes())
        start = end
    yield _special_records(ID_HASHES, places, texts)


def _special_records(kind: int, places: list[int], texts: list[bytes]) -> pa.RecordBatch:
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    nothing = pa.nulls(len(places), pa.string())
    data = _strings(np.frombuffer(b"".join(texts), dtype=np.uint8), ends)
    kinds = pa.array(np.full(len(places), kind, dtype=np.int8))
    columns = [pa.array(places, type=pa.int64()), nothing, kinds, nothing, data, nothing]
    return pa.record_batch(columns, names=_NAMES)


def _strings(data: Bytes, offsets: Int64s) -> pa.StringArray:
    """Returns strings, which nobody decodes, of what lies between the offsets."""
    buffers = pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)
    return pa.StringArray.from_buffers(len(offsets) - 1, *buffers)


def texts_at(data: Bytes, starts: Int64s, ends: Int64s) -> pa.StringArray:
    """Returns strings, which nobody decodes, of `data[starts[i]:ends[i]]`."""
    offsets = np.zeros(len(starts) + 1, dtype=np.int64)
    np.cumsum(ends - starts, out=offsets[1:])
    return _strings(gather(data, starts, ends, offsets), offsets)


@allocating_kernel
def blank_lines(lines: Lines) -> Bools:
    r"""Returns bool [lines], whether each is empty or a lone \r."""
    blank = np.zeros(lines.starts.shape[0], dtype=np.bool_)
    for line in range(lines.starts.shape[0]):
        start, end = lines.starts[line], lines.ends[line]
        blank[line] = end - start < 2 and trim(lines.data, start, end) == start
    return blank


@allocating_kernel
def order_lines(lines: Lines, line_keys: LineKeys) -> Int64s:
    """Returns int64 [lines], an order in which lines of one key and kind are neighbours, sorted by bytes."""
    place, num_lines = line_keys.place, lines.starts.shape[0]
    # In a log that is sorted by key, a run of one place is a whole group, and there are few.
    run_starts = np.empty(num_lines + 1, dtype=np.int64)
    num_runs = 0
    for line in range(num_lines):
        if line == 0 or place[line] != place[line - 1]:
            run_starts[num_runs] = line
            num_runs += 1
    run_starts[num_runs] = num_lines
    by_place = np.argsort(place[run_starts[:num_runs]], kind="mergesort")
    scattered = False
    for i in range(1, num_runs):
        if place[run_starts[by_place[i]]] == place[run_starts[by_place[i - 1]]]:
            scattered = True
    order, scratch = np.empty(num_lines, dtype=np.int64), np.empty(num_lines, dtype=np.int64)
    end = first = 0
    for i in range(num_runs):
        run = by_place[i] if scattered else i
        if end > 0 and place[order[end - 1]] != place[run_starts[run]]:
            sort_range(order, first, end, lines, line_keys.key_starts, line_keys.key_ends, scratch)
            first = end
        for line in range(run_starts[run], run_starts[run + 1]):
            order[end] = line
            end += 1
    sort_range(order, first, end, lines, line_keys.key_starts, line_keys.key_ends, scratch)
    return order


@allocating_kernel
def cut_records(lines: Lines, line_keys: LineKeys, order: Int64s, record_bytes: int) -> Int64s:
    """Returns int64 [records + 1], where in `order` each begins: one key, kind, at most `record_bytes`."""
    num_lines = order.shape[0]
    records = np.empty(num_lines + 1, dtype=np.int64)
    num_records = size = 0
    for i in range(num_lines):
        line = order[i]
        length = lines.ends[line] - lines.starts[line]
        before = order[i - 1] if i > 0 else line
        if (
            i == 0
            or size + length > record_bytes
            or lines.kind[line] != lines.kind[before]
            or line_keys.place[line] != line_keys.place[before]
            or not same_bytes(
                lines.data,
                line_keys.key_starts[line],
                line_keys.key_ends[line],
                lines.data,
                line_keys.key_starts[before],
                line_keys.key_ends[before],
            )
        ):
            records[num_records] = i
            num_records, size = num_records + 1, 0
        size += length
    records[num_records] = num_lines
    return records[: num_records + 1].copy()


@allocating_kernel
def concatenate_records(
    lines: Lines, order: Int64s, records: Int64s, in_place: bool
) -> tuple[Bytes, Int32s, Int64s]:
    """Concatenates records' lines: returns data, places [lines, 2], each record's offset int64 [records + 1].

    Args:
        lines: the lines.
        order: in which they go.
        records: where records begin in `order`.
        in_place: whether that is the order in which they lie in their data: then they aren't copied.
    """
    num_lines = order.shape[0]
    places = np.empty((num_lines, 2), dtype=np.int32)
    record_starts = np.empty(records.shape[0], dtype=np.int64)
    size = 0
    for line in range(num_lines):
        size += lines.ends[line] - lines.starts[line]
    data = np.empty(0 if in_place else size, dtype=np.uint8)
    end = 0
    for record in range(records.shape[0] - 1):
        record_starts[record] = lines.starts[order[records[record]]] if in_place else end
        for i in range(records[record], records[record + 1]):
            start, length = lines.starts[order[i]], lines.ends[order[i]] - lines.starts[order[i]]
            place = start if in_place else end
            places[i, 0], places[i, 1] = place - record_starts[record], place - record_starts[record] + length
            if not in_place:
                data[end : end + length] = lines.data[start : start + length]
            end += length
    record_starts[-1] = lines.ends[order[-1]] if in_place else end
    return data, places, record_starts


@allocating_kernel
def gather(data: Bytes, starts: Int64s, ends: Int64s, offsets: Int64s) -> Bytes:
    """Returns uint8, `data[starts[i]:ends[i]]` for each i, one after the other, at `offsets`."""
    gathered = np.empty(offsets[-1], dtype=np.uint8)
    for i in range(starts.shape[0]):
        for k in range(ends[i] - starts[i]):
            gathered[offsets[i] + k] = data[starts[i] + k]
    return gathered
