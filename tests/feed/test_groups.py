"""Row groups of the examples as flat arrays, cut into slices, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.impressions import CarriedKind, ImpressionColumns
from esmm_spark.contracts.schemas.columns import names_of
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.feed.bags import Bags, Tokens
from esmm_spark.feed.batch import batch_of
from esmm_spark.feed.groups import UNKNOWN_LABEL, Layout, read_groups
from esmm_spark.files.schemas import arrow_schema
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


TRAINING, SCORING = Layout(SPEC), Layout(SPEC, for_scoring=True)


def table_of(*groups: Group, layout: Layout = SCORING) -> pa.Table:
    return pa.Table.from_pylist(list(groups), SCHEMA).select(names_of(layout.columns))


def test_a_batch_is_read_as_flat_bags() -> None:
    groups = read_groups(table_of(GROUP, GROUP), SCORING)
    assert groups.sizes.tolist() == [2, 2]
    assert groups.context.tokens.rows.tolist() == [3, 81, 82] * 2
    assert groups.context.tokens.lengths.tolist() == [1, 0, 2] * 2
    assert groups.context.starts.tolist() == [0, 3, 6]
    assert groups.impression.starts.tolist() == [0, 3, 4, 7, 8]
    assert groups.impression.tokens.lengths.tolist() == [1, 2, 1, 0] * 2
    assert groups.context.tokens.rows.dtype == np.int32


def test_weights_of_a_mean_are_divided_by_the_number_of_values() -> None:
    groups = read_groups(table_of(GROUP), SCORING)
    assert groups.context.tokens.weights.tolist() == [1.0, 0.25, 1.0]
    assert groups.impression.tokens.weights.tolist() == [1.0, 0.5, 1.5, 1.0]


def test_a_part_of_a_larger_batch_is_read_alone() -> None:
    many = table_of(*random_groups(20, 1))
    part = read_groups(many.slice(7, 5), SCORING)
    alone = read_groups(table_of(*random_groups(20, 1)[7:12]), SCORING)
    for ours, theirs in ((part.context, alone.context), (part.impression, alone.impression)):
        for found, expected in zip(ours.tokens, theirs.tokens, strict=True):
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(ours.starts, theirs.starts)
    np.testing.assert_array_equal(part.labels, alone.labels)
    assert part.labels[0].tolist() == [
        label for group in random_groups(20, 1)[7:12] for label in group["click"]
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 12), st.integers(1, 40), st.integers(0, 1000))
def test_slices_hold_every_impression_once_with_its_own_context(
    num_groups: int, batch_size: int, seed: int
) -> None:
    rows = random_groups(num_groups, seed)
    groups = read_groups(table_of(*rows), SCORING)
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
    base = read_groups(table_of(GROUP, GROUP), SCORING)
    groups = replace(base, starts=np.array([0, 3, 5]), impression=_without_tokens(5))
    assert [part.group_sizes.tolist() for part in groups.slices(2)] == [[1], [2], [2]]
    assert [part.group_sizes.tolist() for part in groups.slices(4)] == [[2], [1, 2]]


def _without_tokens(num_impressions: int) -> Bags:
    lengths, starts = np.zeros(num_impressions * 2, np.int32), np.zeros(num_impressions + 1, np.int64)
    return Bags(Tokens(np.zeros(0, np.int32), np.zeros(0, np.float32), lengths), starts, num_fields=2)


def test_a_slice_has_the_labels_of_its_impressions_and_says_which_groups_begin_in_it() -> None:
    groups = read_groups(table_of(GROUP, GROUP), SCORING)
    part = groups.slice(1, 4)
    assert part.labels.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert part.starts_group.tolist() == [False, True]
    assert part.keys.to_pylist() == ["k", "k"]


def test_labels_that_are_not_known_are_told_apart_from_0() -> None:
    table = table_of(
        GROUP,
        {**GROUP, "click": None, "conversion": None},
        {**GROUP, "click": [None, 1], "conversion": [None, None]},
    )
    groups = read_groups(table, SCORING)
    unknown = UNKNOWN_LABEL
    assert groups.labels.tolist() == [
        [1, 0, unknown, unknown, unknown, 1],
        [0, 0, unknown, unknown, unknown, unknown],
    ]
    assert read_groups(table.slice(1, 1), SCORING).labels.tolist() == [[unknown, unknown]] * 2


CARRY: dict[str, CarriedKind] = {"price": "float", "place": "int", "segment": "string"}
CARRIED = {"price": [0.1, None], "place": [2**53, -7], "segment": ["new", None]}


def carried_table(layout: Layout, *groups: Group) -> pa.Table:
    return pa.Table.from_pylist([{**GROUP, **group} for group in groups], arrow_schema(layout.columns))


def test_carried_columns_are_read_as_they_are_and_cut_with_the_impressions() -> None:
    layout = Layout(SPEC, ImpressionColumns(DEFAULT_TASKS, CARRY), for_scoring=True)
    nothing = dict.fromkeys(CARRY)
    table = carried_table(layout, CARRIED, nothing, {**CARRIED, "price": [-2.5, 1.0]})
    for read, prices in (
        (table, [0.1, None, None, None, -2.5, 1.0]),
        (table.slice(1, 2), [None, None, -2.5, 1.0]),
    ):
        groups = read_groups(read, layout)
        assert {name: values.type for name, values in groups.carried.items()} == {
            "price": pa.float64(),
            "place": pa.int64(),
            "segment": pa.string(),
        }
        assert groups.carried["price"].to_pylist() == prices
    assert groups.slice(1, 3).carried["segment"].to_pylist() == [None, "new"]
    assert groups.slice(1, 3).carried["place"].to_pylist() == [None, 2**53]
    assert batch_of([groups.slice(0, 4)], layout).carried == {}


def test_a_batch_of_training_has_the_columns_that_are_read_as_float64_and_nan_where_missing() -> None:
    layout = Layout(SPEC, ImpressionColumns(DEFAULT_TASKS, {"price": "float", "place": "int"}))
    assert "segment" not in names_of(layout.columns)
    groups = read_groups(carried_table(layout, CARRIED, {**CARRIED, "place": [None, 3]}), layout)
    batch = batch_of([groups.slice(1, 3), groups.slice(3, 4)], layout)
    assert {values.dtype for values in batch.carried.values()} == {torch.float64}
    np.testing.assert_array_equal(batch.carried["price"], [np.nan, 0.1, np.nan])
    np.testing.assert_array_equal(batch.carried["place"], [-7, np.nan, 3])
    assert batch.num_missing() == {"price": 2, "place": 1}
    assert {name: len(values) for name, values in batch_of([], layout).carried.items()} == {
        "price": 0,
        "place": 0,
    }


def test_a_carried_list_of_another_length_is_refused() -> None:
    layout = Layout(SPEC, ImpressionColumns(DEFAULT_TASKS, {"price": "float"}))
    with pytest.raises(InputError, match="group 'k' has 3 x price, 2 impressions"):
        read_groups(carried_table(layout, {"price": [1.0, 2.0, 3.0]}), layout)


@pytest.mark.parametrize("layout", [SCORING, TRAINING])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"click": [2, 0]}, "group 'k' has a click that is neither 0 nor 1"),
        ({"click": [1, -1]}, "group 'k' has a click that is neither 0 nor 1"),
        ({"conversion": [0, 1]}, "group 'k' has a conversion without a click"),
        ({"conversion": [1]}, "group 'k' has 1 x conversion, 2 impressions"),
    ],
)
def test_what_is_no_label_is_refused(layout: Layout, labels: dict[str, Any], message: str) -> None:
    table = table_of({**GROUP, "group_key": "before"}, {**GROUP, **labels}, layout=layout)
    with pytest.raises(InputError, match=message):
        read_groups(table, layout)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("context_lengths", [1, 2], r"2 x context_lengths where 3 belong"),
        ("impression_lengths", [1, 2, 1], r"3 x impression_lengths where 4 belong"),
        ("context_lengths", [1, 1, 2], r"3 x context_rows and 3 x context_weights, where .* sums to 4"),
        ("context_lengths", [4, -1, 0], r"where context_lengths sums to 3 with a negative length"),
        ("context_weights", [1.0], r"3 x context_rows and 1 x context_weights"),
        ("impression_rows", [121, 90, 91], r"3 x impression_rows and 4 x impression_weights"),
        ("context_rows", [3, 81, 320], r"context_rows outside of the arena's rows 0 to 319"),
        ("impression_rows", [121, -1, 91, 122], r"impression_rows outside of the arena's rows 0 to 319"),
        ("context_rows", [3, None, 82], r"context_rows holds 1 nulls"),
        ("impression_id", ["a"], r"2 x click, 1 impressions"),
        ("impression_id", None, r"impression_id is missing in 1 of 2 groups"),
        ("group_key", None, r"group_key is missing in 1 of 2 groups"),
    ],
)
def test_a_damaged_group_is_named(column: str, value: list[Any], message: str) -> None:
    batch = table_of({**GROUP, "group_key": "before"}, {**GROUP, column: value})
    with pytest.raises(InputError, match=message):
        read_groups(batch, SCORING)


FUNNEL = Tasks.model_validate(
    {"repurchase": {"given": "conversion"}, "like": {}, "click": {}, "conversion": {"given": "click"}}
)


def test_labels_of_any_tree_of_tasks_are_read_in_its_order_each_against_its_parent() -> None:
    layout = Layout(SPEC, ImpressionColumns(FUNNEL, {}))
    assert FUNNEL.names == ("like", "click", "conversion", "repurchase")

    def table(repurchase: list[int]) -> pa.Table:
        group = {**GROUP, "conversion": [1, 0], "like": [0, 1], "repurchase": repurchase}
        return pa.Table.from_pylist([group], arrow_schema(layout.columns))

    assert read_groups(table([1, 0]), layout).labels.tolist() == [[0, 1], [1, 0], [1, 0], [1, 0]]
    with pytest.raises(InputError, match="group 'k' has a repurchase without a conversion"):
        read_groups(table([0, 1]), layout)
    assert batch_of([], layout).labels.shape == (4, 0)
    whole = batch_of([read_groups(table([1, 0]), layout).slice(0, 2)], layout)
    assert whole.labels.dtype == torch.float32
    assert whole.labels.tolist() == [[0, 1], [1, 0], [1, 0], [1, 0]]


def test_training_meets_unknown_labels_only_where_the_dataset_keeps_them() -> None:
    table = table_of(GROUP, {**GROUP, "click": [1, None], "conversion": None}, layout=TRAINING)
    with pytest.raises(InputError, match="an impression whose click is unknown: train on labelled ones"):
        read_groups(table, TRAINING)
    kept = Layout(SPEC, unknown_labels=True)
    groups = read_groups(table, kept)
    assert groups.labels.tolist() == [[1, 0, 1, UNKNOWN_LABEL], [0, 0, UNKNOWN_LABEL, UNKNOWN_LABEL]]
    assert batch_of([groups.slice(1, 4)], kept).labels.tolist() == [[0, 1, -1], [0, -1, -1]]
    with pytest.raises(InputError, match=r"click is missing in 1 of 2 groups"):
        read_groups(table_of(GROUP, {**GROUP, "click": None}, layout=TRAINING), kept)
