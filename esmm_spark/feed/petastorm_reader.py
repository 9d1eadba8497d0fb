"""A petastorm reader of given row groups in a given order.

`petastorm.make_batch_reader` reads every row group of a dataset once, hands them out as its threads finish
them, and makes a Python object of each list. The exactly-once epochs of `plan` need one order, and some row
groups twice. So this is petastorm's `Reader`, which make_batch_reader returns, with a worker of our own:

    plan.reads -> petastorm's ventilator -> petastorm's threads: Parquet -> Groups -> reads in their order

At most `threads + READ_AHEAD` row groups are in memory here, beside those that batches are being cut from.
The dataset's pickled schema, which petastorm would load, is never looked for: it is given files, not a
folder.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import filesystem as legacy_filesystem
from pyarrow import fs

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.manifest import Block
from esmm_spark.contracts.schemas.columns import names_of
from esmm_spark.feed.groups import Groups, Layout
from esmm_spark.feed.plan import Read, RowGroup
from esmm_spark.feed.row_groups import READ_AHEAD, footer_of, load_groups
from esmm_spark.files import filesystems, storage
from esmm_spark.files.examples_file import DamagedBlockError, read_footer, unreadable

with warnings.catch_warnings():
    # Its imports use names that pyarrow 14 and setuptools warn about.
    warnings.simplefilter("ignore")
    from petastorm.arrow_reader_worker import ArrowReaderWorker
    from petastorm.reader import Reader
    from petastorm.transform import TransformSpec
    from petastorm.workers_pool import EmptyResultError, thread_pool
    from petastorm.workers_pool.ventilator import ConcurrentVentilator

# petastorm's threads look every so many seconds whether they are to stop. As often as a thousand times a
# second, as it comes, each thread that waits takes the interpreter from training: a tenth of a step's time.
thread_pool.IO_TIMEOUT_INTERVAL_S = 0.02


@contextmanager
def open_with_petastorm(
    dataset: str, row_groups: Sequence[RowGroup], reads: Sequence[Read], layout: Layout, threads: int
) -> Iterator[Iterator[Groups]]:
    """Yields an iterator of the groups of each read's row group, in the order of `reads`.

    Args:
        dataset: URI of the dataset.
        row_groups: those of the partition.
        reads: what to read; `read.row_group` is an index into `row_groups`. A row group may be read several
            times.
        layout: of the dataset.
        threads: petastorm's worker threads.

    Raises:
        InputError: a file is missing, truncated, corrupt or not the one that the manifest describes; also
            from the iterator.
    """
    if not reads:
        yield iter(())
        return
    wanted = [row_groups[read.row_group] for read in reads]
    filesystem, root = filesystems.filesystem_of(dataset)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            reader = _PlannedReader(filesystem, root, wanted, layout, threads)
    except (DamagedBlockError, pa.ArrowException, OSError) as error:
        raise _unreadable_footer(dataset, wanted, layout, error) from error
    try:
        yield _in_order(reader, wanted, dataset)
    finally:
        reader.stop()
        reader.join()


def _in_order(reader: "_PlannedReader", wanted: Sequence[RowGroup], dataset: str) -> Iterator[Groups]:
    """Yields the groups of each wanted row group; threads may finish a later one first."""
    early: dict[int, _Found] = {}
    for index, row_group in enumerate(wanted):
        while index not in early:
            found = next(reader)
            early[found.read_index] = found
        result = early.pop(index).result
        reader.ventilator.taken()
        if isinstance(result, InputError | pa.ArrowException | OSError):
            raise unreadable(storage.join(dataset, row_group.path), result, row_group.index) from result
        if isinstance(result, Exception):
            raise result
        yield result


def _unreadable_footer(
    dataset: str, wanted: Sequence[RowGroup], layout: Layout, error: Exception
) -> InputError:
    """Returns the error that names the file whose footer can't be read."""
    for row_group in {each.path: each for each in wanted}.values():
        try:
            footer_of(dataset, row_group, layout)
        except InputError as found:
            return found
    return unreadable(dataset, error)


class _PlannedReader(Reader):  # type: ignore[misc]
    """petastorm's reader over the given row groups in the given order, some of them perhaps twice.

    Args:
        filesystem: where they lie.
        root: the dataset's path on it.
        wanted: the row groups.
        layout: of the dataset.
        threads: worker threads.
    """

    def __init__(
        self,
        filesystem: fs.FileSystem,
        root: str,
        wanted: Sequence[RowGroup],
        layout: Layout,
        threads: int,
    ) -> None:
        self._wanted = [(storage.join(root, row_group.path), row_group.index) for row_group in wanted]
        self._row_groups = wanted
        footers = {storage.join(root, row_group.path): row_group.footer for row_group in wanted}
        super().__init__(
            _Files(filesystem, footers, layout),
            list(dict.fromkeys(path for path, _ in self._wanted)),
            schema_fields=[f"^{column}$" for column in names_of(layout.columns)],
            shuffle_row_groups=False,
            # The queue holds all that is read ahead, and a message after each: a thread that found it full
            # would poll it.
            reader_pool=thread_pool.ThreadPool(threads, results_queue_size=2 * (threads + READ_AHEAD)),
            worker_class=_Worker,
            transform_spec=TransformSpec(partial(load_groups, layout=layout)),
            is_batched_reader=True,
            num_epochs=1,
        )

    def _filter_row_groups(self, dataset: Any, row_groups: list[Any], *_: Any) -> tuple[list[int], None]:
        """Returns the places of the wanted row groups among all `row_groups` of the files, in their order."""
        places = {(piece.path, piece.row_group): place for place, piece in enumerate(row_groups)}
        for path, index in self._wanted:
            if (path, index) not in places:
                raise OSError(f"{path} has no row group {index}")
        return [places[wanted] for wanted in self._wanted], None

    def _create_ventilator(self, row_group_indexes: list[int], *_: Any) -> "_Ventilator":
        items = [
            {"piece_index": piece, "read_index": index, "row_group": self._row_groups[index]}
            for index, piece in enumerate(row_group_indexes)
        ]
        ahead = self._workers_pool.workers_count + READ_AHEAD
        return _Ventilator(self._workers_pool.ventilate, items, max_ventilation_queue_size=ahead)


class _Ventilator(ConcurrentVentilator):  # type: ignore[misc]
    """Starts reads in order, at most its queue size of them ahead of those taken.

    petastorm's own counts a read as done when its result has left the pool. While a slow one is waited for,
    those after it would leave the pool and pile up.
    """

    def processed_item(self) -> None:
        """Does nothing: `taken` counts."""

    def taken(self) -> None:
        """Lets the next read be started."""
        super().processed_item()


@dataclass(frozen=True)
class _Found:
    """What a worker made of one read: its groups, or why there are none."""

    read_index: int
    result: Groups | Exception


class _Worker(ArrowReaderWorker):  # type: ignore[misc]
    """Decodes row groups without making a Python object of any list."""

    @staticmethod
    def new_results_queue_reader() -> "_Results":
        """Returns what takes results out of the pool."""
        return _Results()

    def process(self, piece_index: int, read_index: int, row_group: RowGroup) -> None:
        """Publishes the groups of a row group, or the error: raising here would print a stack trace."""
        piece = self._split_pieces[piece_index]
        result: Groups | Exception
        try:
            with self._filesystem.open(piece.path) as file:
                metadata = self._filesystem.metadata_of(piece.path, file)
                result = self._transform_spec.func(file, metadata, row_group)
        except Exception as error:
            result = error
        self.publish_func(_Found(read_index, result))


class _Results:
    """Takes results out of petastorm's pool as they are."""

    batched_output = True

    def read_next(self, workers_pool: thread_pool.ThreadPool, schema: Any, ngram: Any) -> _Found:
        """Returns the next result. Raises StopIteration after the last one."""
        try:
            found: _Found = workers_pool.get_results()
        except EmptyResultError:
            raise StopIteration from None
        return found


class _Files(legacy_filesystem.FileSystem):  # type: ignore[misc]
    """The file system that petastorm wants, on top of the one that pyarrow has today: local, HDFS, S3 or GCS.

    petastorm 0.12 takes only file systems of pyarrow's old kind.

    Args:
        filesystem: the one of today.
        footers: path -> what the manifest says of the file's footer, which petastorm reads by itself.
        layout: of the dataset.
    """

    def __init__(
        self, filesystem: fs.FileSystem, footers: Mapping[str, Block | None], layout: Layout
    ) -> None:
        self._filesystem, self._footers, self._layout = filesystem, footers, layout
        self._metadata: dict[str, pq.FileMetaData] = {}

    def isdir(self, path: str) -> bool:
        """Returns whether a folder stands at `path`."""
        return bool(self._filesystem.get_file_info(path).type == fs.FileType.Directory)

    def isfile(self, path: str) -> bool:
        """Returns whether a file stands at `path`."""
        return bool(self._filesystem.get_file_info(path).type == fs.FileType.File)

    def open(self, path: str, mode: str = "rb") -> pa.NativeFile:
        """Returns the file at `path`, opened for reading, its footer and columns checked."""
        assert mode == "rb", mode
        file = self._filesystem.open_input_file(path)
        try:
            self.metadata_of(path, file)
        except BaseException:
            file.close()
            raise
        return file

    def metadata_of(self, path: str, file: pa.NativeFile) -> pq.FileMetaData:
        """Returns what the footer of `file`, opened at `path`, says; read once."""
        if path not in self._metadata:
            self._metadata[path] = read_footer(file, self._footers[path], self._layout.columns)
        return self._metadata[path]
