"""CSV files without quotes and broken lines, read by Arrow, a range of bytes at a time.

Without a quote a line is cut at its delimiters, as Spark cuts it. Where that isn't all, `NotPlainError` says
so, and the table is Spark's to read: quotes, lines with too few or too many columns, carriage returns alone,
text that is no UTF-8.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as pc
from pyarrow import fs

from esmm_spark.files import filesystems
from esmm_spark.logs.heads import BYTE_ORDER_MARK

_RANGE_BYTES = 64 << 20
_BLOCK_BYTES = 8 << 20
_TAIL_BYTES = 64 << 10
# Names that no codec of Hadoop's claims.
_SUFFIXES = (".csv", ".tsv", ".txt")


class NotPlainError(Exception):
    """A file is no plain CSV."""


class CsvRange(NamedTuple):
    """The lines that begin in the bytes [start, end) of a file.

    Attributes:
        path: the file.
        start: in bytes.
        end: in bytes.
        split: the split of all its lines; None: they may be of several.
        names: of all columns, in order.
        has_header: whether the file's first line has them.
        delimiter: between them.
    """

    path: str
    start: int
    end: int
    split: str | None
    names: tuple[str, ...]
    has_header: bool
    delimiter: str


def csv_ranges(whole: CsvRange) -> list[CsvRange]:
    """Returns the ranges of a whole file, which each make a task."""
    starts = range(0, whole.end, _RANGE_BYTES)
    return [whole._replace(start=start, end=min(start + _RANGE_BYTES, whole.end)) for start in starts]


def csv_size(path: str) -> int | None:
    """Returns the bytes of a file; None where its name says that they are compressed."""
    filesystem, inner = filesystems.filesystem_of(path)
    return int(filesystem.get_file_info(inner).size) if inner.endswith(_SUFFIXES) else None


def read_csv_range(span: CsvRange, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yields some columns of the lines of a range, as text, and how many bytes they come from.

    Raises:
        NotPlainError: see above.
        OSError: the file can't be read.
    """
    convert = pc.ConvertOptions(
        include_columns=list(columns),
        column_types=dict.fromkeys(columns, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
    )
    parse = pc.ParseOptions(delimiter=span.delimiter, quote_char=False, newlines_in_values=False)
    for place, block in _blocks(span):
        text = _without_head(block, span.has_header) if place == 0 else block
        _require_plain(text)
        if not text.strip(b"\r\n"):
            yield (
                pa.record_batch([pa.array([], pa.string()) for _ in columns], names=list(columns)),
                len(block),
            )
            continue
        read = pc.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=span.names)
        try:
            table = pc.read_csv(pa.BufferReader(text), read, parse, convert)
        except pa.ArrowInvalid as error:
            raise NotPlainError(f"{span.path}: {error}") from error
        (batch,) = table.combine_chunks().to_batches()
        yield batch, len(block)


def _without_head(block: bytes, has_header: bool) -> bytes:
    block = block.removeprefix(BYTE_ORDER_MARK)
    return block.partition(b"\n")[2] if has_header else block


def _require_plain(text: bytes) -> None:
    """Raises NotPlainError where Arrow would cut lines elsewhere than Spark does."""
    if b'"' in text or b"\0" in text:
        raise NotPlainError("a quote")
    returns = text.count(b"\r")
    if returns and returns != text.count(b"\r\n"):
        raise NotPlainError("a carriage return without a line feed")


def _blocks(span: CsvRange) -> Iterator[tuple[int, bytes]]:
    """Yields whole lines of a range, and where they begin in the file."""
    filesystem, inner = filesystems.filesystem_of(span.path)
    with filesystem.open_input_file(inner) as file:
        # The line that ends at or after `start` is another range's.
        place = span.start - 1 + len(_line_at(file, span.start - 1)) if span.start else 0
        while place < span.end:
            block = file.read_at(min(_BLOCK_BYTES, span.end - place), place)
            if not block.endswith(b"\n"):
                block += _line_at(file, place + len(block))
            yield place, block
            place += len(block)


def _line_at(file: fs.FileSystem, place: int) -> bytes:
    """Returns what stands from `place` on up to the end of its line."""
    line = b""
    while not line.endswith(b"\n"):
        more = file.read_at(_TAIL_BYTES, place + len(line))
        if not more:
            break
        end = more.find(b"\n") + 1
        line += more[:end] if end else more
    return line
