"""Row groups shared out to tasks."""

from hypothesis import given
from hypothesis import strategies as st

from esmm_spark.contracts.manifest import ExamplesFile, PartitionCounts
from esmm_spark.feed.plan import RowGroup
from esmm_spark.scoring.work import num_tasks, work_per_task


def partition(*files: list[int]) -> PartitionCounts:
    """Files of row groups with so many impressions each, in groups of 2."""
    named = [
        ExamplesFile(path=f"part-{number}", groups=[size // 2 for size in sizes], impressions=sizes)
        for number, sizes in enumerate(files)
    ]
    return PartitionCounts(
        groups=sum(sum(file.groups) for file in named),
        impressions=sum(sum(file.impressions) for file in named),
        positives={"click": 0, "conversion": 0},
        context_tokens=0,
        impression_tokens=0,
        group_hash_sum=0,
        files=named,
    )


def test_a_share_holds_neighbours_and_may_cross_files() -> None:
    assert work_per_task(partition([4, 4], [4, 12]), 2) == [
        (RowGroup("part-0", 0, 2, 4), RowGroup("part-0", 1, 2, 4), RowGroup("part-1", 0, 2, 4)),
        (RowGroup("part-1", 1, 6, 12),),
    ]


def test_no_row_groups_are_one_share_of_nothing() -> None:
    assert work_per_task(partition(), 4) == [()]


@given(st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=6), st.integers(1, 12))
def test_every_row_group_is_in_one_share_and_shares_are_even(sizes: list[list[int]], tasks: int) -> None:
    counts = partition(*sizes)
    shares = work_per_task(counts, tasks)
    scored = [(row_group.path, row_group.index) for share in shares for row_group in share]
    assert scored == [(f"part-{number}", i) for number, file in enumerate(sizes) for i in range(len(file))]
    assert 1 <= len(shares) <= tasks
    loads = [sum(row_group.impressions for row_group in share) for share in shares]
    assert sum(loads) == counts.impressions
    # Its first and its last row group may reach beyond a share's even part by half.
    largest = max((size for file in sizes for size in file), default=0)
    assert max(loads) <= counts.impressions / tasks + largest
    assert sum(row_group.groups for share in shares for row_group in share) == counts.groups


def test_there_are_two_tasks_per_core_and_no_task_takes_much_longer_than_others_do() -> None:
    assert num_tasks(1000, num_cores=2) == 4
    assert num_tasks(4_000_001, num_cores=2) == 5
    assert num_tasks(10**10, num_cores=100) == 10_000
