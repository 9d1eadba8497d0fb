"""The batches of one rank: each step's share of impressions, cut from the row groups of its streams."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from esmm_spark.contracts.train_config import ReaderName
from esmm_spark.feed.batch import Batch, batch_of
from esmm_spark.feed.groups import Groups, GroupSlice, Layout
from esmm_spark.feed.plan import EpochPlan, Read


@contextmanager
def open_feed(
    dataset: str,
    layout: Layout,
    plan: EpochPlan,
    rank: int,
    num_ranks: int,
    first_step: int = 0,
    reader_threads: int = 1,
    reader: ReaderName = "petastorm",
) -> Iterator[Iterator[Batch]]:
    """Yields an iterator of this rank's batch of every step from `first_step` to the epoch's end.

    Every rank gets a batch for every step, an empty one where it has no impressions in it, so that all ranks
    make the same number of steps.

    Args:
        dataset: URI of the dataset.
        layout: of the dataset: its spec, labels and carried columns as its manifest has them, which
            `read_manifest` read, refusing pickles.
        plan: the steps of the epoch.
        rank: this rank.
        num_ranks: ranks that share the epoch.
        first_step: steps before it are not read.
        reader_threads: threads that decode ahead of the batches.
        reader: what they are of; the batches are the same.

    Raises:
        InputError: a file is missing, truncated, corrupt or not the one that the manifest describes; also
            from the iterator.
    """
    # Nothing of the other one is imported.
    if reader == "petastorm":
        from esmm_spark.feed.petastorm_reader import open_with_petastorm as open_row_groups
    else:
        from esmm_spark.feed.arrow_reader import open_with_arrow as open_row_groups
    reads = plan.reads(rank, num_ranks, first_step)
    with open_row_groups(dataset, plan.row_groups, reads, layout, reader_threads) as row_groups:
        yield _batches(plan, rank, num_ranks, first_step, iter(zip(reads, row_groups, strict=True)), layout)


def _batches(
    plan: EpochPlan,
    rank: int,
    num_ranks: int,
    first_step: int,
    opened: Iterator[tuple[Read, Groups]],
    layout: Layout,
) -> Iterator[Batch]:
    """Yields the batches; `opened` gives the reads in the order in which the steps need them."""
    streams = {stream: _Stream() for stream in plan.streams_of_rank(rank, num_ranks)}
    for step in range(first_step, plan.num_steps):
        slices: list[GroupSlice] = []
        for number, stream in streams.items():
            needed = plan.impressions_of_stream(step, number)
            while stream.num_impressions < needed:
                read, groups = next(opened)
                streams[read.stream].append(read, groups)
            slices += stream.take(needed)
        yield batch_of(slices, layout)
    assert next(opened, None) is None, "the plan reads more than its steps take"


class _Stream:
    """What was read of a stream and no step has taken yet."""

    def __init__(self) -> None:
        self.num_impressions = 0
        self._open: deque[tuple[Groups, int, int]] = deque()

    def append(self, read: Read, groups: Groups) -> None:
        """Adds the impressions of a read."""
        self._open.append((groups, read.start, read.stop))
        self.num_impressions += read.stop - read.start

    def take(self, count: int) -> list[GroupSlice]:
        """Returns the next `count` impressions."""
        self.num_impressions -= count
        slices = []
        while count:
            groups, start, stop = self._open.popleft()
            middle = min(stop, start + count)
            slices.append(groups.slice(start, middle))
            if middle < stop:
                self._open.appendleft((groups, middle, stop))
            count -= middle - start
        return slices
