"""Row groups of Parquet files, cut into the tasks that read them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow.parquet as pq

from esmm_spark.files import filesystems

_READS_AT_ONCE = 16


class TableRowGroup(NamedTuple):
    """A row group of a file.

    Attributes:
        path: the file.
        number: which.
        split: the split of all its lines; None: they may be of several.
    """

    path: str
    number: int
    split: str | None


def row_group_tasks(
    files: Sequence[tuple[str, str | None]], task_bytes: int
) -> tuple[list[list[TableRowGroup]], int]:
    """Returns the row groups of each task, in order, and how many lines they have.

    Args:
        files: each with its split.
        task_bytes: what a task reads at least, not compressed.
    """
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        footers = list(pool.map(lambda file: _footer(file[0]), files))
    tasks: list[list[TableRowGroup]] = []
    bytes_left = 0
    for (path, split), footer in zip(files, footers, strict=True):
        for number in range(footer.num_row_groups):
            if bytes_left <= 0:
                tasks.append([])
                bytes_left = task_bytes
            tasks[-1].append(TableRowGroup(path, number, split))
            bytes_left -= footer.row_group(number).total_byte_size
    return tasks, sum(footer.num_rows for footer in footers)


def _footer(path: str) -> pq.FileMetaData:
    filesystem, inner = filesystems.filesystem_of(path)
    return pq.read_metadata(inner, filesystem=filesystem)
