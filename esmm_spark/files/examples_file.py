"""A file of examples as it is written and read: the manifest has a checksum of each row group and the footer.

Parquet's own page checksums, which pyarrow 14 neither writes nor checks, would leave the footer and the
headers of pages uncovered. These cover every byte of a file, and a row group is read at once, where pyarrow
reads each column for itself: ten requests to an object store are one.
"""

import io
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.manifest import Block, PartitionCounts
from esmm_spark.contracts.schemas.columns import Column
from esmm_spark.files import filesystems, storage
from esmm_spark.files.schemas import arrow_schema
from esmm_spark.runtime.checksums import checksum_of, is_checksum_of

_OTHER_CONTENT = "its content is not what the manifest says"


class DamagedBlockError(InputError):
    """A part of a file isn't what the manifest says of it."""


class BlockStream(io.RawIOBase):
    """Takes what a Parquet writer writes, and passes it on block by block, each with its checksum.

    Args:
        stream: where the bytes go.

    Attributes:
        num_bytes: of each block so far.
        checksums: of each block so far.
    """

    def __init__(self, stream: pa.NativeFile) -> None:
        super().__init__()
        self.num_bytes: list[int] = []
        self.checksums: list[str] = []
        self._stream = stream
        self._open: list[bytes] = []

    def writable(self) -> bool:
        """Returns True."""
        return True

    def write(self, data: Any) -> int:
        """Keeps the bytes until the block ends."""
        self._open.append(data)
        return len(data)

    def end_block(self) -> None:
        """Writes what was kept, as one block."""
        block = b"".join(self._open)
        self._open = []
        self.num_bytes.append(len(block))
        self.checksums.append(checksum_of(block))
        self._stream.write(block)


def read_footer(file: pa.NativeFile, footer: Block | None, columns: Iterable[Column] = ()) -> pq.FileMetaData:
    """Returns the metadata of an examples file.

    Args:
        file: opened for reading.
        footer: what the manifest says of it; None in datasets of before.
        columns: those that the file must have, of their types.

    Raises:
        DamagedBlockError: the file's size or its footer is another one, or a column is.
        ArrowException, OSError: it is no Parquet file.
    """
    metadata = _read_metadata(file, footer)
    _require_columns(metadata, columns)
    return metadata


def _read_metadata(file: pa.NativeFile, footer: Block | None) -> pq.FileMetaData:
    if footer is None:
        return pq.read_metadata(file)
    size, expected = file.size(), footer.offset + footer.num_bytes
    if size != expected:
        raise DamagedBlockError(f"it has {size} bytes, the manifest says {expected}")
    content = file.read_at(footer.num_bytes, footer.offset)
    if not is_checksum_of(footer.checksum, content):
        raise DamagedBlockError(f"{_OTHER_CONTENT} (footer)")
    return pq.read_metadata(pa.BufferReader(content))


def read_row_group(
    file: pa.NativeFile, metadata: pq.FileMetaData, index: int, block: Block | None, columns: list[str]
) -> pa.Table:
    """Returns columns of a row group.

    Args:
        file: opened for reading.
        metadata: what `read_footer` returned of it.
        index: which row group.
        block: what the manifest says of it; None in datasets of before.
        columns: their names.

    Raises:
        DamagedBlockError: its content is another one.
        ArrowException, OSError: it can't be read.
    """
    source = file
    if block is not None:
        content = pa.py_buffer(file.read_at(block.num_bytes, block.offset))
        if not is_checksum_of(block.checksum, content):
            raise DamagedBlockError(_OTHER_CONTENT)
        source = _as_file(content, metadata, index, block)
    # One thread: the others belong to training, or to Spark's other tasks.
    return pq.ParquetFile(source, metadata=metadata).read_row_group(index, columns=columns, use_threads=False)


def _require_columns(metadata: pq.FileMetaData, columns: Iterable[Column]) -> None:
    """Raises DamagedBlockError unless the file has these columns, of their types."""
    found = metadata.schema.to_arrow_schema()
    for wanted in arrow_schema(columns):
        if wanted.name not in found.names:
            raise DamagedBlockError(f"it has no column {wanted.name}")
        column_type = found.field(wanted.name).type
        if _nullable(column_type) != _nullable(wanted.type):
            raise DamagedBlockError(f"column {wanted.name} is {column_type}, not {wanted.type}")


def _nullable(column_type: pa.DataType) -> pa.DataType:
    """Returns the type with nulls allowed in lists, as in datasets that others wrote."""
    # Two lists are equal whatever their elements are called.
    return pa.list_(column_type.value_type) if pa.types.is_list(column_type) else column_type


def unreadable(uri: str, error: Exception, row_group: int | None = None) -> InputError:
    """Returns what to tell of an examples file that can't be read as the manifest describes it.

    Args:
        uri: the file.
        error: InputError, ArrowException or OSError, as reading it raises them.
        row_group: which one it was; None where the file as a whole can't be read.
    """
    if isinstance(error, FileNotFoundError):
        return InputError(f"{uri} is missing: preprocess again")
    place = uri if row_group is None else f"{uri}, row group {row_group}"
    reason = " ".join(str(error).split()).rstrip(".")
    return InputError(
        f"{place}: {reason}; it is truncated, corrupt or not what preprocess wrote there: preprocess again"
    )


def check_files(dataset: str, counts: PartitionCounts) -> None:
    """Raises InputError unless the files are those that the manifest describes, by their sizes and footers.

    One small read for each file: a file that was written again has another footer.
    """
    for described in counts.files:
        uri = storage.join(dataset, described.path)
        filesystem, path = filesystems.filesystem_of(uri)
        blocks = described.blocks
        try:
            with filesystem.open_input_file(path) as file:
                read_footer(file, blocks[-1] if blocks else None)
        except (DamagedBlockError, pa.ArrowException, OSError) as error:
            raise unreadable(uri, error) from error


def _as_file(content: pa.Buffer, metadata: pq.FileMetaData, index: int, block: Block) -> pa.BufferReader:
    """Returns `content` as a file that holds it at the place of `block`, and nothing else, without a copy."""
    row_group = metadata.row_group(index)
    for number in range(row_group.num_columns):
        chunk = row_group.column(number)
        # The memory around `content` isn't ours.
        start = chunk.data_page_offset
        if chunk.has_dictionary_page:
            start = min(start, chunk.dictionary_page_offset)
        if start < block.offset or start + chunk.total_compressed_size > block.offset + block.num_bytes:
            raise DamagedBlockError(f"{_OTHER_CONTENT} (place of row group {index})")
    size = block.offset + block.num_bytes
    return pa.BufferReader(pa.foreign_buffer(content.address - block.offset, size, base=content))
