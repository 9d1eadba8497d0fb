"""Raw lines as the kernels take them: places in bytes that are never copied for a line's sake."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from esmm_spark.runtime.arrays import Bytes, Int8s, Int64s
from esmm_spark.runtime.texts import text_memory

# What a line is: its file, and of an impression whether another context's impression with the same id is kept
# instead.
CONTEXT, IMPRESSION, REPEATED_IMPRESSION = 0, 1, 2


class Lines(NamedTuple):
    """Raw lines, without their line feeds.

    Attributes:
        data: uint8, read-only, bytes that hold the lines, in any order, and perhaps others.
        starts: int64 [lines], where each begins in `data`.
        ends: int64 [lines], the byte after each.
        kind: int8 [lines], CONTEXT, IMPRESSION or REPEATED_IMPRESSION.
        reason: int8 [lines], output of the grouping: why the line was rejected, or ACCEPTED.
    """

    data: Bytes
    starts: Int64s
    ends: Int64s
    kind: Int8s
    reason: Int8s


def lines_at(data: Bytes | bytes, starts: Int64s, ends: Int64s, kind: Int8s) -> Lines:
    """Returns the lines at these places of `data`."""
    # Read-only, whatever it was: kernels are compiled for one kind of array.
    view = np.frombuffer(data, dtype=np.uint8)
    view.flags.writeable = False
    return Lines(view, starts, ends, kind, np.zeros(len(starts), dtype=np.int8))


def lines_of(batch: pa.RecordBatch) -> Lines:
    """Returns the lines of a batch without copying them: columns `kind` int8 and `line` string or binary."""
    data, offsets = text_memory(batch.column("line"))
    places = offsets.astype(np.int64)
    return lines_at(data, places[:-1].copy(), places[1:].copy(), batch.column("kind").to_numpy())


def split_lines(data: bytes, kind: int) -> Lines:
    r"""Returns the lines of `data`, each ended by a line feed, the last one perhaps by nothing."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")).astype(np.int64, copy=False)
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.zeros(len(ends), dtype=np.int64)
    starts[1:] = ends[:-1] + 1
    return lines_at(data, starts, ends, np.full(len(ends), kind, dtype=np.int8))
