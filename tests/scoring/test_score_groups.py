"""Arrow batches of groups as flat arrays, cut into slices, and what is refused."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm_spark.contracts.errors import InputError
from esmm_spark.feed.bags import Bags
from esmm_spark.scoring.groups import (
    GROUP_COLUMNS,
    Groups,
    read_groups,
    read_labels,
)
from tests.synthetic_examples import SCHEMA, SPEC, Group, random_groups

LEVELS = ("context", "impression")

# Fields of SPEC: context user, tags, history (mean); impression item, labels (mean).
GROUP: Group = {
    "group_key": "k",
    "group_hash": 1,
    "impression_id": ["a", "b"],
    "click": [1, 0],
    "conversion": [0, 0],
    "context_rows": [3, 81, 82],
    "context_weights": [1.0, 0.5, 2.0],
    "context_lengths": [1, 0, 2],
    "impression_rows": [121, 90, 91, 122],
    "impression_weights": [1.0, 1.0, 3.0, 1.0],
    "impression_lengths": [1, 2, 1, 0],
}


def record_batch(*groups: Group) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(groups), SCHEMA).select(GROUP_COLUMNS)


def test_a_batch_is_read_as_flat_bags() -> None:
    groups = read_groups(record_batch(GROUP, GROUP), SPEC)
    assert groups.sizes.tolist() == [2, 2]
    assert groups.context.rows.tolist() == [3, 81, 82] * 2
    assert groups.context.lengths.tolist() == [1, 0, 2] * 2
    assert groups.context.starts.tolist() == [0, 3, 6]
    assert groups.impression.starts.tolist() == [0, 3, 4, 7, 8]
    assert groups.impression.lengths.tolist() == [1, 2, 1, 0] * 2
    assert groups.context.rows.dtype == np.int32


def test_weights_of_a_mean_are_divided_by_the_number_of_values() -> None:
    groups = read_groups(record_batch(GROUP), SPEC)
    assert groups.context.weights.tolist() == [1.0, 0.25, 1.0]
    assert groups.impression.weights.tolist() == [1.0, 0.5, 1.5, 1.0]


def test_a_part_of_a_larger_batch_is_read_alone() -> None:
    many = record_batch(*random_groups(20, 1))
    part = read_groups(many.slice(7, 5), SPEC)
    alone = read_groups(record_batch(*random_groups(20, 1)[7:12]), SPEC)
    for level in LEVELS:
        for name in ("rows", "weights", "lengths", "starts"):
            np.testing.assert_array_equal(
                getattr(getattr(part, level), name), getattr(getattr(alone, level), name)
            )
    assert read_labels(many.slice(7, 5), "click", part.sizes).to_pylist() == [
        label for group in random_groups(20, 1)[7:12] for label in group["click"]
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 12), st.integers(1, 40), st.integers(0, 1000))
def test_slices_hold_every_impression_once_with_its_own_context(
    num_groups: int, batch_size: int, seed: int
) -> None:
    rows = random_groups(num_groups, seed)
    groups = read_groups(record_batch(*rows), SPEC)
    slices = list(groups.slices(batch_size))

    sizes = [part.stop - part.start for part in slices]
    assert sum(sizes) == groups.num_impressions
    assert all(0 < size <= batch_size for size in sizes)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    # Each impression as (its context's rows, its own rows), once from the slices and once from the rows.
    assert [pair for part in slices for pair in pairs(part.group_sizes, part.context, part.impression)] == [
        pair
        for row in rows
        for pair in pairs([len(row["click"])], *(tokens_of(row, level) for level in LEVELS))
    ]
    assert len(slices) == -(-groups.num_impressions // batch_size)


def tokens_of(row: Group, level: str) -> tuple[Any, Any, Any]:
    rows, weights, lengths = (np.array(row[f"{level}_{name}"]) for name in ("rows", "weights", "lengths"))
    return rows, weights, lengths


def pairs(sizes: Any, context: Any, impression: Any) -> list[tuple[list[int], list[int]]]:
    """Each impression as the rows of its context and its own, by plain slicing."""

    def rows(tokens: Any, first_bag: int, num_bags: int) -> list[int]:
        rows, weights, lengths = tokens
        assert len(rows) == len(weights) == sum(lengths)
        start = int(sum(lengths[:first_bag]))
        found: list[int] = rows[start : start + int(sum(lengths[first_bag : first_bag + num_bags]))].tolist()
        return found

    owners = np.repeat(np.arange(len(sizes)), sizes)
    return [(rows(context, 3 * group, 3), rows(impression, 2 * i, 2)) for i, group in enumerate(owners)]


def test_a_group_may_be_cut_and_its_context_is_in_both_slices() -> None:
    base = read_groups(record_batch(GROUP, GROUP), SPEC)
    groups = Groups(np.array([0, 3, 5]), base.context, _without_tokens(5))
    assert [part.group_sizes.tolist() for part in groups.slices(2)] == [[1], [2], [2]]
    assert [part.group_sizes.tolist() for part in groups.slices(4)] == [[2], [1, 2]]


def _without_tokens(num_impressions: int) -> Bags:
    lengths, starts = np.zeros(num_impressions * 2, np.int32), np.zeros(num_impressions + 1, np.int64)
    return Bags(np.zeros(0, np.int32), np.zeros(0, np.float32), lengths, starts, num_fields=2)


def test_a_group_without_labels_has_null_labels() -> None:
    batch = record_batch(GROUP, {**GROUP, "click": None}, {**GROUP, "click": [None, 1]})
    assert read_labels(batch, "click", np.array([2, 2, 2])).to_pylist() == [1, 0, None, None, None, 1]
    assert read_labels(batch.slice(1, 1), "click", np.array([2])).to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("context_lengths", [1, 2], r"2 x context_lengths where 3 belong, in group 'k'"),
        ("impression_lengths", [1, 2, 1], r"3 x impression_lengths where 4 belong"),
        ("context_lengths", [1, 1, 2], r"3 x context_rows and 3 x context_weights, where .* sums to 4"),
        ("context_lengths", [4, -1, 0], r"where context_lengths sums to 3 with a negative length"),
        ("context_weights", [1.0], r"3 x context_rows and 1 x context_weights"),
        ("impression_rows", [121, 90, 91], r"3 x impression_rows and 4 x impression_weights"),
        ("context_rows", [3, 81, 320], r"context_rows outside of the arena's rows 0 to 319"),
        ("impression_rows", [121, -1, 91, 122], r"impression_rows outside of the arena's rows 0 to 319"),
        ("context_rows", [3, None, 82], r"context_rows holds 1 nulls"),
        ("impression_id", ["a"], r"4 x impression_lengths where 2 belong"),
    ],
)
def test_a_damaged_group_is_named(column: str, value: list[Any], message: str) -> None:
    batch = record_batch({**GROUP, "group_key": "before"}, {**GROUP, column: value})
    with pytest.raises(InputError, match=message):
        read_groups(batch, SPEC)


def test_labels_of_another_number_than_the_impressions_are_named() -> None:
    batch = record_batch({**GROUP, "click": [1]})
    with pytest.raises(InputError, match=r"1 x click, 2 impressions, in group 'k'"):
        read_labels(batch, "click", np.array([2]))
