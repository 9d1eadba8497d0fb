"""Reads the footers of many Parquet files in parallel."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.files import filesystems, storage

_READS_AT_ONCE = 16


def read_footers(folder: str, paths: Sequence[str]) -> list[pq.FileMetaData]:
    """Returns the footers of the files `paths`, relative to `folder`, in their order.

    Raises:
        CountMismatchError: a file isn't there, or is no Parquet file.
    """

    def read(path: str) -> pq.FileMetaData:
        filesystem, full_path = filesystems.filesystem_of(storage.join(folder, path))
        try:
            with filesystem.open_input_file(full_path) as file:
                return pq.read_metadata(file)
        except (ValueError, OSError) as error:
            raise CountMismatchError(
                f"{storage.join(folder, path)} was written, but can't be read: {error}; nothing was replaced"
            ) from error

    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        return list(pool.map(read, paths))


def require_count(folder: str, paths: Sequence[str], expected: int, what: str) -> None:
    """Raises CountMismatchError unless the Parquet files hold `expected` records together.

    Args:
        folder: what `paths` are relative to.
        paths: the files.
        expected: records.
        what: the records, for the message ("scores").
    """
    found = sum(footer.num_rows for footer in read_footers(folder, paths))
    if found != expected:
        raise CountMismatchError(
            f"{found:,} {what} in the {len(paths)} files of {folder}, {expected:,} were written: nothing was "
            "replaced"
        )
