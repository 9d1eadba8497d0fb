"""Which row groups each task scores: pure arithmetic over the manifest."""

from dataclasses import dataclass
from itertools import groupby

from esmm_spark.contracts.manifest import Block, PartitionCounts

# About 4 seconds of one core, and a file of about 15 MiB, in Ali-CCP's shape.
_IMPRESSIONS_PER_TASK = 1_000_000
# So that a core whose tasks are slow doesn't keep the others waiting for long.
_TASKS_PER_CORE = 2


@dataclass(frozen=True)
class Segment:
    """Row groups of one file that follow each other.

    Attributes:
        path: of the file, relative to the dataset.
        first: the first row group.
        last: the one after the last.
        groups: what the manifest says that they hold.
        impressions: likewise.
        blocks: where they lie in the file, and their checksums; none in datasets of before.
        footer: likewise of the file's footer.
    """

    path: str
    first: int
    last: int
    groups: int
    impressions: int
    blocks: tuple[Block, ...] = ()
    footer: Block | None = None


Work = tuple[Segment, ...]


def num_tasks(impressions: int, num_cores: int) -> int:
    """Returns how many tasks should score a partition, if it has as many row groups.

    Args:
        impressions: of the partition.
        num_cores: those that Spark has.
    """
    return max(_TASKS_PER_CORE * num_cores, -(-impressions // _IMPRESSIONS_PER_TASK))


def share_out(counts: PartitionCounts, tasks: int) -> list[Work]:
    """Returns what each task scores: every row group once, in order, with about as many impressions per task.

    Args:
        counts: of the partition.
        tasks: their number, at most; no task is left without a row group, unless there is none at all: then
            one task has nothing to do.

    Worked example: row groups of 4, 4, 4 and 12 impressions make 2 tasks: 4, 4, 4 and 12.
    """
    # The task of a row group is the one that its middle impression falls to. Twice the middle, to stay whole.
    doubled, before = [], 0
    for file in counts.files:
        blocks = file.blocks
        footer = blocks[-1] if blocks else None
        for index, (groups, impressions) in enumerate(zip(file.groups, file.impressions, strict=True)):
            own = tuple(blocks[index : index + 1])
            segment = Segment(file.path, index, index + 1, groups, impressions, own, footer)
            doubled.append((2 * before + impressions, segment))
            before += impressions

    def task_of(item: tuple[int, Segment]) -> int:
        return min(item[0] * tasks // max(2 * before, 1), tasks - 1)

    shares = [_join([segment for _, segment in items]) for _, items in groupby(doubled, task_of)]
    return shares or [()]


def _join(segments: list[Segment]) -> Work:
    """Returns the segments, those of one file as one."""
    joined = []
    for path, items in groupby(segments, lambda segment: segment.path):
        parts = list(items)
        joined.append(
            Segment(
                path,
                parts[0].first,
                parts[-1].last,
                sum(part.groups for part in parts),
                sum(part.impressions for part in parts),
                tuple(block for part in parts for block in part.blocks),
                parts[0].footer,
            )
        )
    return tuple(joined)
