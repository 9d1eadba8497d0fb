"""Reads row groups of the examples from Parquet to `Groups`, checked against the manifest.

Training's readers (`petastorm_reader`, `arrow_reader`) call `load_groups` in threads, in the order of an
epoch's plan; a scoring task takes its share one after the other from `read_row_groups`.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.schemas.columns import names_of
from esmm_spark.feed.groups import Groups, Layout, read_groups
from esmm_spark.feed.plan import RowGroup
from esmm_spark.files import filesystems, storage
from esmm_spark.files.examples_file import (
    DamagedBlockError,
    read_footer,
    read_row_group,
    unreadable,
)

# Row groups read ahead of the one that batches wait for, beside one per thread.
READ_AHEAD = 2


def read_row_groups(dataset: str, row_groups: Sequence[RowGroup], layout: Layout) -> Iterator[Groups]:
    """Yields the groups of each row group in their order.

    Args:
        dataset: URI of the dataset.
        row_groups: what to read; those of one file follow each other.
        layout: of the dataset.

    Raises:
        InputError: a file is missing, truncated, corrupt, lacks a column, or holds other groups than the
            manifest says.
    """
    for path, of_file in groupby(row_groups, lambda row_group: row_group.path):
        yield from _read_file(storage.join(dataset, path), list(of_file), layout)


def _read_file(uri: str, row_groups: Sequence[RowGroup], layout: Layout) -> Iterator[Groups]:
    """Yields the groups of row groups of one file."""
    filesystem, path = filesystems.filesystem_of(uri)
    index = None
    try:
        with filesystem.open_input_file(path) as file:
            metadata = read_footer(file, row_groups[0].footer, layout.columns)
            for row_group in row_groups:
                index = row_group.index
                yield load_groups(file, metadata, row_group, layout)
    except (InputError, pa.ArrowException, OSError) as error:
        raise unreadable(uri, error, index) from error


def load_groups(
    file: pa.NativeFile,
    metadata: pq.FileMetaData,
    row_group: RowGroup,
    layout: Layout,
) -> Groups:
    """Returns the groups of one row group.

    Args:
        file: opened for reading.
        metadata: of the file.
        row_group: which one, and what the manifest says of it.
        layout: of the dataset.

    Raises:
        InputError: it isn't what the manifest says, or a group's lists don't fit together.
        ArrowException, OSError: it can't be read.
    """
    if row_group.index >= metadata.num_row_groups:
        raise DamagedBlockError(f"the file has {metadata.num_row_groups} row groups")
    table = read_row_group(file, metadata, row_group.index, row_group.block, names_of(layout.columns))
    groups = read_groups(table, layout)
    sizes = (len(groups.keys), groups.num_impressions)
    if sizes != (row_group.groups, row_group.impressions):
        raise DamagedBlockError(
            f"it has {sizes[0]} groups with {sizes[1]} impressions, "
            f"the manifest says {row_group.groups} with {row_group.impressions}"
        )
    return groups


def footer_of(dataset: str, row_group: RowGroup, layout: Layout) -> pq.FileMetaData:
    """Returns the checked footer of the file of a row group. Raises InputError, which names the file."""
    uri = storage.join(dataset, row_group.path)
    filesystem, path = filesystems.filesystem_of(uri)
    try:
        with filesystem.open_input_file(path) as file:
            return read_footer(file, row_group.footer, layout.columns)
    except (DamagedBlockError, pa.ArrowException, OSError) as error:
        raise unreadable(uri, error) from error
