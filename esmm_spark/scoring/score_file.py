"""Parquet files of scores, written by the tasks themselves with pyarrow."""

import hashlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.contracts.schemas.columns import score_columns
from esmm_spark.files import filesystems
from esmm_spark.files.schemas import arrow_schema

# Texts that repeat are dictionaries in memory alone: read back, they are strings.
_DICTIONARIES = ("group_key", "model_version")
_ZSTD_LEVEL = 1
# In memory; 0.4 times that in the file.
_ROW_GROUP_BYTES = 8 << 20


def score_schema(brought: ImpressionColumns) -> pa.Schema:
    """Returns the schema of scores in memory, a record per impression."""
    tasks, carry = brought
    fields = arrow_schema(score_columns(tasks.all_score_columns, tasks.names, carry))
    return pa.schema(
        [
            field.with_type(pa.dictionary(pa.int32(), field.type)) if field.name in _DICTIONARIES else field
            for field in fields
        ]
    )


class _HashedStream(io.RawIOBase):
    """Passes on what is written, and has its SHA-256."""

    def __init__(self, stream: pa.NativeFile) -> None:
        super().__init__()
        self.digest = hashlib.sha256()
        self._stream = stream

    def writable(self) -> bool:
        """Returns True."""
        return True

    def write(self, data: Any) -> int:
        """Writes the bytes."""
        self.digest.update(data)
        self._stream.write(data)
        return len(data)


class ScoreFile:
    """One Parquet file of scores, in row groups of about 8 MiB in memory. It may hold no scores at all."""

    def __init__(self, uri: str, brought: ImpressionColumns) -> None:
        """Creates the file at `uri`, whose folder must be there, for scores of these tasks."""
        self._uri, self._schema = uri, score_schema(brought)
        filesystem, path = filesystems.filesystem_of(uri)
        self._stream: Any = filesystem.open_output_stream(path)
        self._hashed = _HashedStream(self._stream)
        self._writer = pq.ParquetWriter(
            self._hashed,
            self._schema,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            # No two impressions share an id, and few a score: to look for repetitions there takes three times
            # as long as the rest of writing, and makes the file larger.
            use_dictionary=[*_DICTIONARIES, *brought.tasks.names, *brought.carry],
            # Ids and scores lie in no order: their least and greatest would rule nothing out.
            write_statistics=False,
            store_schema=False,
        )
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0

    def write(self, scores: pa.RecordBatch) -> None:
        """Adds scores, as `score_schema` has them."""
        if scores.num_rows:
            self._pending.append(scores)
            self._pending_bytes += scores.nbytes
        if self._pending_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> tuple[int, str]:
        """Completes the file; returns the number of its scores, as its footer tells it, and its SHA-256."""
        self._flush()
        self._writer.close()
        self._stream.close()
        filesystem, path = filesystems.filesystem_of(self._uri)
        with filesystem.open_input_file(path) as stream:
            return int(pq.read_metadata(stream).num_rows), self._hashed.digest.hexdigest()

    def _flush(self) -> None:
        if self._pending:
            # A row group's column has one dictionary, or its texts are written out.
            table = pa.Table.from_batches(self._pending, self._schema).unify_dictionaries()
            self._writer.write_table(table, row_group_size=table.num_rows)
        self._pending, self._pending_bytes = [], 0
