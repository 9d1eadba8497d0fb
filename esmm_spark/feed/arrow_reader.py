"""A reader of given row groups in a given order, of pyarrow and a pool of threads.

It gives what `petastorm_reader` gives, and checks the same. At most `threads + READ_AHEAD` row groups are in
memory here, beside those that batches are being cut from.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from esmm_spark.contracts.errors import InputError
from esmm_spark.feed.groups import Groups, Layout
from esmm_spark.feed.plan import Read, RowGroup
from esmm_spark.feed.row_groups import READ_AHEAD, footer_of, load_groups
from esmm_spark.files import filesystems, storage
from esmm_spark.files.examples_file import unreadable


@contextmanager
def open_with_arrow(
    dataset: str, row_groups: Sequence[RowGroup], reads: Sequence[Read], layout: Layout, threads: int
) -> Iterator[Iterator[Groups]]:
    """Yields an iterator of the groups of each read's row group, as `open_with_petastorm` does."""
    wanted = [row_groups[read.row_group] for read in reads]
    filesystem, root = filesystems.filesystem_of(dataset)
    footers = _footers(dataset, wanted, layout)

    def load(row_group: RowGroup) -> Groups:
        with filesystem.open_input_file(storage.join(root, row_group.path)) as file:
            return load_groups(file, footers[row_group.path], row_group, layout)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    try:
        yield _in_order(pool, load, wanted, dataset, threads + READ_AHEAD)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor,
    load: Callable[[RowGroup], Groups],
    wanted: Sequence[RowGroup],
    dataset: str,
    most: int,
) -> Iterator[Groups]:
    """Yields what `load` makes of each wanted row group, at most so many of them loaded or at work."""
    to_come, ahead = iter(wanted), deque[Future[Groups]]()
    for row_group in wanted:
        ahead.extend(pool.submit(load, following) for following in islice(to_come, most - len(ahead)))
        try:
            groups = ahead.popleft().result()
        except (InputError, pa.ArrowException, OSError) as error:
            raise unreadable(storage.join(dataset, row_group.path), error, row_group.index) from error
        yield groups


def _footers(dataset: str, wanted: Sequence[RowGroup], layout: Layout) -> dict[str, pq.FileMetaData]:
    """Returns path -> what the footer of each wanted file says, once it is checked. Raises InputError."""
    footers: dict[str, pq.FileMetaData] = {}
    for row_group in wanted:
        if row_group.path not in footers:
            footers[row_group.path] = footer_of(dataset, row_group, layout)
        if row_group.index >= footers[row_group.path].num_row_groups:
            uri = storage.join(dataset, row_group.path)
            raise unreadable(dataset, OSError(f"{uri} has no row group {row_group.index}"))
    return footers
