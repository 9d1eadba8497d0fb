"""Reads lines of local files in Python workers, a range of bytes per task.

Spark's text source hands every line to Python as a record: for the short lines of impressions that costs
several times what reading costs. Files that it would read as they are, from a local path and not
compressed, are cut into ranges of bytes instead. All others stay with Spark.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from esmm_spark.contracts.errors import InputError
from esmm_spark.logs.heads import BYTE_ORDER_MARK
from esmm_spark.logs.lines import Lines, split_lines

BLOCK_BYTES = 32 << 20
# Of lines that a task reads at least: it costs 0.03 s to start.
TASK_BYTES = 48 << 20
# As many ranges at most, unless they would be larger than this.
_MAX_RANGES, _MAX_RANGE_BYTES = 4096, 256 << 20
# Names that no codec of Hadoop's claims.
_PLAIN_SUFFIXES = ("", ".csv", ".txt")


@dataclass(frozen=True)
class FileRange:
    """The lines that begin in the bytes [start, end) of a file.

    Attributes:
        path: a local path.
        start: in bytes.
        end: in bytes.
        kind: CONTEXT or IMPRESSION.
    """

    path: str
    start: int
    end: int
    kind: int


def local_path(uri: str) -> str | None:
    """Returns the path of a file of this host, None of any other."""
    parts = urlsplit(uri)
    path = unquote(parts.path)
    return path if parts.scheme == "file" and not parts.netloc and os.path.isfile(path) else None


def plain_paths(uris: Sequence[str]) -> list[str] | None:
    """Returns the local paths of `uris`, or None unless all are files here that aren't compressed."""
    paths = [path for uri in uris if (path := local_path(uri)) is not None]
    is_plain = len(paths) == len(uris) and all(Path(path).suffix in _PLAIN_SUFFIXES for path in paths)
    return paths if is_plain else None


def file_ranges(files: Sequence[tuple[str, int]], block_bytes: int = BLOCK_BYTES) -> list[FileRange]:
    """Returns the ranges of `files`, pairs of path and kind: a block each, or more in large logs."""
    sizes = [os.path.getsize(path) for path, _ in files]
    range_bytes = min(max(block_bytes, sum(sizes) // _MAX_RANGES), _MAX_RANGE_BYTES)
    return [
        FileRange(path, start, min(start + range_bytes, size), kind)
        for (path, kind), size in zip(files, sizes, strict=True)
        for start in range(0, size, range_bytes)
    ]


def ranges_per_task(ranges: Sequence[FileRange], task_bytes: int = TASK_BYTES) -> list[list[FileRange]]:
    """Returns the ranges of each task, in order: `task_bytes` at least, but for the last task."""
    tasks: list[list[FileRange]] = []
    bytes_left = 0
    for span in ranges:
        if bytes_left <= 0:
            tasks.append([])
            bytes_left = task_bytes
        tasks[-1].append(span)
        bytes_left -= span.end - span.start
    return tasks


def read_blocks(span: FileRange, block_bytes: int = BLOCK_BYTES) -> Iterator[Lines]:
    """Yields the lines of a range, blank ones too, about `block_bytes` at a time.

    A byte order mark in front of the file is skipped, as Spark's text source does.

    Raises:
        InputError: the file is gone, or its disk fails.
    """
    try:
        yield from _read_blocks(span, block_bytes)
    except OSError as error:
        raise InputError(
            f"can't read {span.path}, bytes {span.start:,} to {span.end:,}: {error.strerror}: mend its disk, "
            "or write it again"
        ) from error


def _read_blocks(span: FileRange, block_bytes: int) -> Iterator[Lines]:
    at_least = 0
    with Path(span.path).open("rb") as file:
        if span.start > 0:
            # The line that ends at or after `start` is another range's.
            file.seek(span.start - 1)
            file.readline()
        elif file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK:
            # The first line is this range's, wherever the mark ends.
            at_least = 1
        else:
            file.seek(0)
        while (left := max(span.end - file.tell(), at_least)) > 0:
            at_least = 0
            data = file.read(min(block_bytes, left))
            if not data.endswith(b"\n"):
                data += file.readline()
            if not data:
                return
            yield split_lines(data, span.kind)
