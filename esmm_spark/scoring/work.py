"""Which row groups each task scores: pure arithmetic over the manifest."""

from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.feed.plan import RowGroup, row_groups_of
from esmm_spark.spark.shares import balanced_shares

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


def work_per_task(counts: PartitionCounts, tasks: int) -> list[Work]:
    """Returns what each task scores: every row group once, in order, with about as many impressions per task.

    Args:
        counts: of the partition.
        tasks: their number, at most; no task is left without a row group, unless there is none at all: then
            one task has nothing to do.
    """
    shares = balanced_shares(row_groups_of(counts), lambda row_group: row_group.impressions, tasks)
    return [tuple(share) for share in shares] or [()]
