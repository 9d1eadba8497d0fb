"""What names and counts say of columns."""

from dataclasses import replace
from typing import Any

import pytest

from esmm_spark.profile.counts.facts import ColumnFacts, TableFacts, ValueCount
from esmm_spark.profile.guesses.role_guess import guess_roles
from esmm_spark.profile.guesses.split_guess import split_rule, with_split_column
from tests.profile.guesses.hand_facts import LINES, column, flag


def table(*columns: ColumnFacts) -> TableFacts:
    return TableFacts("log", LINES, 0, columns)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["click", "purchase"], {"click": "click", "conversion": "purchase"}),
        (["isClick", "is_order"], {"click": "isClick", "conversion": "is_order"}),
        (["clk", "pay", "is_vip"], {"click": "clk", "conversion": "pay"}),
        (["label"], {"target": "label"}),
        (["buy"], {"conversion": "buy"}),
        (["is_vip", "is_new"], {}),
        (["clicked_order", "click"], {"click": "click", "conversion": "clicked_order"}),
    ],
)
def test_labels_are_flags_that_are_called_so(names: list[str], labels: dict[str, str]) -> None:
    roles = guess_roles(table(*(flag(name, 100) for name in names)))
    assert {task: label.flag and label.flag.column for task, label in roles.labels.items()} == labels
    assert (roles.tasks is None) == (not labels)


def test_a_flag_that_is_only_ever_1_is_0_where_it_is_missing() -> None:
    roles = guess_roles(table(flag("click", 100, missing=LINES - 100)))
    source = roles.labels["click"].flag
    assert source is not None
    missing = "coalesce(trim(cast(`click` as string)), '') in ('', 'NaN')"
    assert source.expr == f"if({missing}, '0', cast(`click` as string))"
    assert "100 of 10,000 lines have 1, the others nothing" in roles.reasons["labels.click"]


def test_the_time_of_an_order_is_its_label() -> None:
    orders = column("order_time", missing=9_900, distinct=100)
    roles = guess_roles(table(flag("click", 500), orders))
    assert roles.labels["conversion"].flag is not None
    missing = "coalesce(trim(cast(`order_time` as string)), '') in ('', 'NaN')"
    assert roles.labels["conversion"].flag.expr == f"if({missing}, 0, 1)"


@pytest.mark.parametrize(
    ("name", "first", "last", "unit"),
    [
        ("timestamp", 1.79e9, 1.7902e9, "s"),
        ("event_time", 1.79e12, 1.7902e12, "ms"),
        ("ts", 1.79e15, 1.7902e15, "us"),
        ("timestamp", 5.0, 700.0, None),
        ("dwell_time", 1.79e9, 1.7902e9, None),
    ],
)
def test_the_unit_of_a_time_is_the_one_in_which_it_is_of_this_century(
    name: str, first: float, last: float, unit: str | None
) -> None:
    times = column(name, numbers=LINES, wholes=LINES, quantiles=[first, *[first] * 19, last])
    roles = guess_roles(table(times))
    assert (roles.time_unit if roles.time else None) == unit


def test_a_request_is_the_context_before_a_user_is() -> None:
    user, request = column("user_id", distinct=500), column("request_id", distinct=1_000)
    assert str(guess_roles(table(user, request)).context_key) == "request_id"
    roles = guess_roles(table(column("user_age"), user))
    assert (str(roles.context_key), roles.is_recurring) == ("user_id", True)


@pytest.mark.parametrize(
    "spoilt", [{"missing": 100}, {"commas": 3}, {"distinct": 9_900}, {"shape": "list"}, {"distinct": 1}]
)
def test_what_preprocessing_would_reject_is_no_context_key(spoilt: dict[str, Any]) -> None:
    assert guess_roles(table(column("request_id", **{"distinct": 1_000, **spoilt}))).context_key is None


def test_an_id_of_impressions_is_each_lines_own() -> None:
    assert str(guess_roles(table(column("impression_id", distinct=LINES))).impression_id) == "impression_id"
    assert guess_roles(table(column("impression_id", distinct=5_000))).impression_id is None


@pytest.mark.parametrize(
    ("values", "splits"),
    [
        ({"train": 70, "test": 20, "val": 10}, {"train": ["train"], "test": ["test"], "validation": ["val"]}),
        ({"TRAIN": 90, "Test": 10}, {"train": ["TRAIN"], "test": ["Test"]}),
        # A value that is no split's; lines that have other values beside the frequent ones; no test split.
        ({"train": 50, "test": 30, "spare": 20}, None),
        ({"train": 50, "test": 30}, None),
        ({"train": 80, "val": 20}, None),
    ],
)
def test_a_column_of_nothing_but_words_for_splits_says_which_lines_train_and_test(
    values: dict[str, int], splits: dict[str, list[str]] | None
) -> None:
    number = LINES // 100
    part = column("part", distinct=len(values))
    top = {"part": [ValueCount(value, times * number, {}) for value, times in values.items()]}
    facts = TableFacts("data/log", LINES, 0, [column("city"), part, flag("click", 500)], top=top)
    roles = with_split_column(facts, guess_roles(facts))
    rule, reason = split_rule(facts, roles)
    if splits is None:
        assert (rule.column, rule.test_fraction) == (None, 0.2)
        return
    assert str(rule.column) == "part"
    assert rule.values == splits
    assert reason.startswith("part says which: ")
    assert roles.among(["part"])["part"] == "splits"
    with_gap = replace(facts, columns=[replace(part, missing=1)])
    assert with_split_column(with_gap, guess_roles(with_gap)).splits is None
