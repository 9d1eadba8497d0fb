"""The batches of an epoch: which impressions make which step. Pure arithmetic on the manifest's row groups.

    row groups --permuted by the seed--> a sequence of impressions --cut into num_streams segments--> streams
    step t takes the next `share` impressions of every stream; stream s is read by rank s % num_ranks

Worked example: row groups a, b, c of 5, 3 and 4 impressions, permuted to b, c, a; 2 streams, batch_size 4, so
each stream's share is 2. 12 impressions are 3 full steps, so each stream is a segment of 6:

    sequence  b0 b1 b2 c0 c1 c2 | c3 a0 a1 a2 a3 a4
    step 0:   stream 0 b0 b1    stream 1 c3 a0
    step 1:   stream 0 b2 c0    stream 1 a1 a2
    step 2:   stream 0 c1 c2    stream 1 a3 a4

A segment may begin or end within a row group, c here: its two streams read it once each, so at most
num_streams - 1 row groups are read twice in an epoch. In return every step but the last is full, whatever the
row groups' sizes: dealing out whole row groups leaves a tail of small batches while the streams are uneven (5
row groups over 4 streams: half of the steps with a quarter of the batch).

The number of ranks decides only who reads a stream. So the same impressions meet in the same step on any
number of ranks, and a step number is a position in the epoch that another number of ranks can go on from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import TooFewRowGroupsError
from esmm_spark.contracts.manifest import Block, PartitionCounts
from esmm_spark.contracts.schemas.layout import EXAMPLES
from esmm_spark.files.storage import join
from esmm_spark.runtime.arrays import Int64s

MIN_DEFAULT_STREAMS = 4


@dataclass(frozen=True)
class RowGroup:
    """One row group of a partition.

    Attributes:
        path: its file, relative to the dataset.
        index: which row group of the file it is, from 0.
        groups: impression groups in it.
        impressions: impressions in it.
        block: where it lies in the file, and its checksum; None in datasets of before.
        footer: likewise of the file's footer.
    """

    path: str
    index: int
    groups: int
    impressions: int
    block: Block | None = None
    footer: Block | None = None


@dataclass(frozen=True)
class Read:
    """What a rank reads of one row group for one of its streams.

    Attributes:
        stream: the stream.
        row_group: index into the plan's `row_groups`.
        start: impressions to skip at the row group's start.
        stop: the impression after the last one to take, counted from the row group's first.
    """

    stream: int
    row_group: int
    start: int
    stop: int


def row_groups_of(counts: PartitionCounts) -> list[RowGroup]:
    """Returns the row groups of a partition in the manifest's order."""
    found = []
    for file in counts.files:
        blocks: list[Block | None] = [*file.blocks] or [None] * (len(file.groups) + 1)
        footer = blocks.pop()
        parts = zip(file.groups, file.impressions, blocks, strict=True)
        found += [RowGroup(file.path, index, *part, footer) for index, part in enumerate(parts)]
    return found


def default_num_streams(num_ranks: int) -> int:
    """Returns the smallest multiple of `num_ranks` that is at least 4: as many streams on every rank."""
    return num_ranks * -(-MIN_DEFAULT_STREAMS // num_ranks)


def require_row_groups(counts: PartitionCounts, num_ranks: int, config: Config) -> None:
    """Raises TooFewRowGroupsError if a partition has fewer row groups than there are ranks to train on it.

    Args:
        counts: the partition.
        num_ranks: ranks that are to train on it.
        config: says where the dataset lies and how large its row groups were to be.
    """
    if counts.num_row_groups >= num_ranks:
        return
    partition = counts.files[0].path.rpartition("/")[0] if counts.files else EXAMPLES
    raise TooFewRowGroupsError(
        f"{counts.num_row_groups} row groups < {num_ranks} ranks in {join(config.paths.dataset, partition)}: "
        f"preprocess with samples.num_files >= {num_ranks} or a samples.row_group_mb below "
        f"{config.samples.row_group_mb:g}, or train on <= {max(counts.num_row_groups, 1)} ranks"
    )


class EpochPlan:
    """The steps of one epoch over a partition. The same arguments give the same plan on every rank.

    Args:
        row_groups: the partition's row groups in the manifest's order.
        num_streams: streams that a global batch is drawn from; a resumed run must keep it.
        batch_size: impressions of a step over all ranks. Only the last step of an epoch is smaller.
        seed: seed of the order of the row groups.
        epoch: each epoch has its own order.
        shuffle: False keeps the manifest's order.
    """

    def __init__(
        self,
        row_groups: Sequence[RowGroup],
        num_streams: int,
        batch_size: int,
        seed: int,
        epoch: int,
        shuffle: bool = True,
    ) -> None:
        assert num_streams >= 1, num_streams
        assert batch_size >= 1, batch_size
        self.row_groups = tuple(row_groups)
        self.num_streams = num_streams
        self.batch_size = batch_size
        sizes = np.array([row_group.impressions for row_group in self.row_groups], dtype=np.int64)
        self.num_impressions = int(sizes.sum())
        self._order = np.arange(len(sizes))
        if shuffle:
            # default_rng takes no negative numbers, a config's seed may be one.
            self._order = np.random.default_rng([seed % 2**64, epoch]).permutation(len(sizes))
        # [R + 1] where each row group begins on the line of all impressions, and where the last one ends.
        self._line = np.concatenate(([0], np.cumsum(sizes[self._order])))

    @property
    def num_steps(self) -> int:
        """Steps of the epoch: the number of impressions / batch_size, rounded up."""
        return -(-self.num_impressions // self.batch_size)

    @cached_property
    def shares(self) -> Int64s:
        """[num_streams] impressions that a full step takes of each; some 0 if batch_size < num_streams."""
        return _split(self.batch_size, self.num_streams)

    @cached_property
    def _segments(self) -> Int64s:
        """[num_streams + 1] where in the sequence each stream begins.

        A stream holds its share of every full step and its part of what remains for the last one, which is
        never more than its share.
        """
        full_steps, remainder = divmod(self.num_impressions, self.batch_size)
        lengths = full_steps * self.shares + _split(remainder, self.num_streams)
        return np.concatenate(([0], np.cumsum(lengths)))

    def impressions_in_step(self, step: int) -> int:
        """Returns the impressions of a step over all ranks, which its loss is the mean over."""
        return min(self.batch_size, self.num_impressions - step * self.batch_size)

    def impressions_of_stream(self, step: int, stream: int) -> int:
        """Returns the impressions that a step takes of a stream."""
        share = int(self.shares[stream])
        length = int(self._segments[stream + 1] - self._segments[stream])
        return max(0, min(share, length - step * share))

    def places(self, step: int, rank: int, num_ranks: int) -> Int64s:
        """Returns [N] the place of each impression of a rank's share in the step's whole batch, from 0 on.

        The whole batch is what one rank would have: stream by stream. So places are the impressions' own,
        whatever the number of ranks.
        """
        counts = [self.impressions_of_stream(step, stream) for stream in range(self.num_streams)]
        starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        own = self.streams_of_rank(rank, num_ranks)
        return np.concatenate([np.arange(starts[s], starts[s + 1]) for s in own] or [starts[:0]])

    def streams_of_rank(self, rank: int, num_ranks: int) -> range:
        """Returns the streams of a rank, in the order in which they fill its batches."""
        return range(rank, self.num_streams, num_ranks)

    def reads(self, rank: int, num_ranks: int, first_step: int = 0) -> list[Read]:
        """Returns what a rank reads from `first_step` to the epoch's end, in the order that batches need.

        Batches are filled step by step, and within a step stream by stream. So one reader that keeps this
        order can serve all streams of the rank, holding one row group per stream.
        """
        reads: list[Read] = []
        first_needed: list[Int64s] = []
        for stream in self.streams_of_rank(rank, num_ranks):
            share = int(self.shares[stream])
            begin, end = int(self._segments[stream]), int(self._segments[stream + 1])
            begin = min(begin + first_step * share, end)
            if begin == end:
                continue
            # The places on the line of the row groups that overlap [begin, end).
            first = int(np.searchsorted(self._line, begin, side="right")) - 1
            last = int(np.searchsorted(self._line, end, side="left"))
            places = np.arange(first, last)
            starts = np.maximum(self._line[places], begin)
            stops = np.minimum(self._line[places + 1], end)
            taken = stops > starts  # not so for a row group without impressions
            places, starts, stops = places[taken], starts[taken], stops[taken]
            first_needed.append((starts - self._segments[stream]) // share)
            offsets = self._line[places]
            for place, start, stop in zip(places, starts - offsets, stops - offsets, strict=True):
                reads.append(Read(stream, int(self._order[place]), int(start), int(stop)))
        if not reads:
            return []
        # Stable: a stream's row groups that one step needs stay in their order.
        streams = np.array([read.stream for read in reads])
        order = np.lexsort((streams, np.concatenate(first_needed)))
        return [reads[i] for i in order]


def _split(total: int, parts: int) -> Int64s:
    """Returns [parts] numbers that differ by at most 1 and add up to `total`. Example: 7 in 3 is 3, 2, 2."""
    return total // parts + (np.arange(parts) < total % parts).astype(np.int64)
