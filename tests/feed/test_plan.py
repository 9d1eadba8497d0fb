"""The plan against a plain loop, and exactly-once over grids of streams, ranks and first steps."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import TooFewRowGroupsError
from esmm_spark.contracts.manifest import ExamplesFile, PartitionCounts
from esmm_spark.feed.plan import (
    EpochPlan,
    RowGroup,
    default_num_streams,
    require_row_groups,
    row_groups_of,
)

Impression = tuple[int, int]  # row group, impression within it

sizes_strategy = st.lists(st.integers(0, 23), min_size=0, max_size=9)
small = st.integers(1, 6)


def plan_of(
    sizes: list[int], num_streams: int, batch_size: int, seed: int = 0, epoch: int = 0, shuffle: bool = True
) -> EpochPlan:
    row_groups = [RowGroup("part-0.parquet", i, 1, n) for i, n in enumerate(sizes)]
    return EpochPlan(row_groups, num_streams, batch_size, seed, epoch, shuffle)


def steps_of_rank(plan: EpochPlan, rank: int, num_ranks: int, first_step: int) -> list[list[Impression]]:
    """Follows `reads` in order, as a feed would, asserting that the next read is always the one needed."""
    reads = iter(plan.reads(rank, num_ranks, first_step))
    open_impressions: dict[int, list[Impression]] = {s: [] for s in plan.streams_of_rank(rank, num_ranks)}
    steps = []
    for step in range(first_step, plan.num_steps):
        batch: list[Impression] = []
        for stream in plan.streams_of_rank(rank, num_ranks):
            needed = plan.impressions_of_stream(step, stream)
            taken: list[Impression] = []
            while len(taken) < needed:
                if not open_impressions[stream]:
                    read = next(reads)
                    assert read.stream == stream
                    open_impressions[stream] = [(read.row_group, i) for i in range(read.start, read.stop)]
                taken.append(open_impressions[stream].pop(0))
            batch += taken
        steps.append(batch)
    assert next(reads, None) is None
    assert not any(open_impressions.values())
    return steps


def plain_loop_steps(plan: EpochPlan, order: list[int], sizes: list[int]) -> list[list[Impression]]:
    """The same plan without arithmetic: deal impressions one by one."""
    line = [(g, i) for g in order for i in range(sizes[g])]
    share = [0] * plan.num_streams
    for i in range(plan.batch_size):
        share[i % plan.num_streams] += 1
    length = [0] * plan.num_streams
    for i in range(len(line)):
        length[i % plan.batch_size % plan.num_streams] += 1
    streams = []
    for n in length:
        streams.append(line[:n])
        line = line[n:]
    steps = []
    while any(streams):
        steps.append([impression for s, n in zip(streams, share, strict=True) for impression in s[:n]])
        streams = [s[n:] for s, n in zip(streams, share, strict=True)]
    return steps


@given(sizes_strategy, small, st.integers(1, 40), st.integers(-5, 5), st.integers(0, 3), st.booleans())
def test_steps_equal_a_plain_loop(
    sizes: list[int], num_streams: int, batch_size: int, seed: int, epoch: int, shuffle: bool
) -> None:
    plan = plan_of(sizes, num_streams, batch_size, seed, epoch, shuffle)
    order = list(range(len(sizes)))
    if shuffle:
        order = np.random.default_rng([seed % 2**64, epoch]).permutation(len(sizes)).tolist()
    expected = plain_loop_steps(plan, order, sizes)
    assert steps_of_rank(plan, 0, 1, 0) == expected
    assert plan.num_steps == len(expected)
    assert [plan.impressions_in_step(t) for t in range(plan.num_steps)] == [len(s) for s in expected]


@given(sizes_strategy, small, st.integers(1, 40), small)
def test_any_number_of_ranks_sees_the_same_impressions_in_each_step(
    sizes: list[int], num_streams: int, batch_size: int, num_ranks: int
) -> None:
    plan = plan_of(sizes, num_streams, batch_size)
    alone = steps_of_rank(plan, 0, 1, 0)
    together = [steps_of_rank(plan, rank, num_ranks, 0) for rank in range(num_ranks)]
    for step in range(plan.num_steps):
        union = [impression for rank in together for impression in rank[step]]
        assert sorted(union) == sorted(alone[step])


@given(sizes_strategy, small, st.integers(1, 40))
def test_every_impression_is_seen_exactly_once(sizes: list[int], num_streams: int, batch_size: int) -> None:
    plan = plan_of(sizes, num_streams, batch_size)
    seen = Counter(impression for step in steps_of_rank(plan, 0, 1, 0) for impression in step)
    assert seen == Counter({(g, i): 1 for g, n in enumerate(sizes) for i in range(n)})


@given(sizes_strategy, small, st.integers(1, 40), small, small, st.data())
def test_a_run_resumed_on_other_ranks_sees_exactly_the_rest(
    sizes: list[int],
    num_streams: int,
    batch_size: int,
    ranks_before: int,
    ranks_after: int,
    data: st.DataObject,
) -> None:
    plan = plan_of(sizes, num_streams, batch_size)
    first_step = data.draw(st.integers(0, plan.num_steps))
    before = [steps_of_rank(plan, rank, ranks_before, 0)[:first_step] for rank in range(ranks_before)]
    after = [steps_of_rank(plan, rank, ranks_after, first_step) for rank in range(ranks_after)]
    seen = Counter(impression for rank in before + after for step in rank for impression in step)
    assert seen == Counter({(g, i): 1 for g, n in enumerate(sizes) for i in range(n)})


@given(sizes_strategy, small, st.integers(1, 40))
def test_only_the_last_step_is_not_full_and_few_row_groups_are_read_twice(
    sizes: list[int], num_streams: int, batch_size: int
) -> None:
    plan = plan_of(sizes, num_streams, batch_size)
    counts = [plan.impressions_in_step(t) for t in range(plan.num_steps)]
    assert all(n == batch_size for n in counts[:-1])
    assert sum(counts) == sum(sizes)
    assert len(plan.reads(0, 1)) <= sum(n > 0 for n in sizes) + num_streams - 1


def test_the_worked_example_of_the_module() -> None:
    # b, c, a of the docstring in the manifest's order.
    plan = plan_of([3, 4, 5], num_streams=2, batch_size=4, shuffle=False)
    b, c, a = 0, 1, 2
    assert steps_of_rank(plan, 0, 1, 0) == [
        [(b, 0), (b, 1), (c, 3), (a, 0)],
        [(b, 2), (c, 0), (a, 1), (a, 2)],
        [(c, 1), (c, 2), (a, 3), (a, 4)],
    ]


def test_row_groups_come_in_another_order_each_epoch_and_the_same_order_each_time() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [read.row_group for read in plan_of([7] * 50, 1, 10, seed, epoch).reads(0, 1)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert sorted(order(1, 0)) == list(range(50))


def test_a_rank_without_a_stream_has_nothing_to_read() -> None:
    plan = plan_of([5, 5], num_streams=2, batch_size=4)
    assert plan.reads(2, 3) == []
    assert steps_of_rank(plan, 2, 3, 0) == [[], [], []]


@pytest.mark.parametrize(("num_ranks", "expected"), [(1, 4), (2, 4), (3, 6), (4, 4), (5, 5), (8, 8)])
def test_default_streams_are_the_smallest_multiple_of_the_ranks_from_4_on(
    num_ranks: int, expected: int
) -> None:
    assert default_num_streams(num_ranks) == expected


def counts_of(files: list[ExamplesFile]) -> PartitionCounts:
    return PartitionCounts(
        groups=0,
        impressions=sum(sum(file.impressions) for file in files),
        positives={"click": 0, "conversion": 0},
        context_tokens=0,
        impression_tokens=0,
        group_hash_sum=0,
        files=files,
    )


TWO_FILES = counts_of(
    [
        ExamplesFile(path="examples/split=train/part-0.parquet", groups=[2, 1], impressions=[20, 10]),
        ExamplesFile(path="examples/split=train/part-1.parquet", groups=[3], impressions=[30]),
    ]
)


def test_row_groups_are_listed_in_the_order_of_the_manifest() -> None:
    assert row_groups_of(TWO_FILES) == [
        RowGroup("examples/split=train/part-0.parquet", 0, 2, 20),
        RowGroup("examples/split=train/part-0.parquet", 1, 1, 10),
        RowGroup("examples/split=train/part-1.parquet", 0, 3, 30),
    ]


CONFIG = Config.model_validate(
    {
        "paths": {"dataset": "data/x", "model": "m", "scores": "s", "report": "r"},
        "logs": {"splits": {"train": {"skeleton": "a", "common_features": "b"}}},
        "features": {
            "tables": {"user": {"num_buckets": 10}},
            "fields": [{"name": "user", "level": "context"}],
        },
    }
)


def test_fewer_row_groups_than_ranks_says_how_many_where_and_what_to_do() -> None:
    with pytest.raises(TooFewRowGroupsError) as caught:
        require_row_groups(TWO_FILES, 4, CONFIG)
    assert str(caught.value) == (
        "3 row groups < 4 ranks in data/x/examples/split=train: preprocess with samples.num_files >= 4 or a "
        "samples.row_group_mb below 4, or train on <= 3 ranks"
    )


def test_as_many_row_groups_as_ranks_are_enough() -> None:
    require_row_groups(TWO_FILES, 3, CONFIG)
