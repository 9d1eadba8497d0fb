"""Which row groups each task scores: pure arithmetic over the manifest."""

from itertools import groupby

from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.feed.plan import RowGroup, row_groups_of

# About 4 seconds of one core, and a file of about 15 MiB, in Ali-CCP's shape.
_IMPRESSIONS_PER_TASK = 1_000_000
# So that a core whose tasks are slow doesn't keep the others waiting for long.
_TASKS_PER_CORE = 2


# Those of a file follow each other.
Work = tuple[RowGroup, ...]


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
    for row_group in row_groups_of(counts):
        doubled.append((2 * before + row_group.impressions, row_group))
        before += row_group.impressions

    def task_of(item: tuple[int, RowGroup]) -> int:
        return min(item[0] * tasks // max(2 * before, 1), tasks - 1)

    shares = [tuple(row_group for _, row_group in items) for _, items in groupby(doubled, task_of)]
    return shares or [()]
