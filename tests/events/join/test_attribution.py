"""Attribution against brute force, with equal timestamps and window edges."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.event_config import Attribution, ClickLog
from esmm_spark.contracts.funnel import EventLink
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.events.join.attribution import (
    BEFORE_CAUSE,
    CAUSE_TIME_US,
    OWNER_ID,
    attribute_to_causes,
    attribute_to_impressions,
    label_impressions,
)
from tests.events import oracle

pytestmark = pytest.mark.spark

SECOND = oracle.SECOND
IMPRESSIONS = "impression_id string, user_id string, item_id string, time_us bigint"
BY_ID = ("time_us bigint, click_id string, impression_id string", "time_us bigint, click_id string")
BY_USER = ("time_us bigint, user_id string, item_id string",) * 2
WINDOWS = Attribution(click_window_s=3, conversion_window_s=4)

Event = dict[str, Any]


def frame(spark: SparkSession, rows: list[Event], schema: str) -> DataFrame:
    names = [column.split()[0] for column in schema.split(", ")]
    return spark.createDataFrame([tuple(row[name] for name in names) for row in rows], schema)


def links(clicks: DataFrame, conversions: DataFrame | None, attribution: Attribution) -> list[EventLink]:
    """Returns the links that follow from the columns of canonical logs."""
    of_clicks = {name: ColumnSource(column=name) for name in clicks.columns if name.endswith("_id")}
    of_conversions = {
        name: ColumnSource(column=name) for name in (conversions or clicks).columns if name.endswith("_id")
    }
    log, is_first = (
        ClickLog.model_validate({"path": "p", "time": "t"}),
        attribution.conversion_click == "first",
    )
    return [
        EventLink("click", "clicks", "", log, of_clicks, None, attribution.click_window_s),
        EventLink(
            "conversion", "", "", log, of_conversions, "click", attribution.conversion_window_s, is_first
        ),
    ]


def attribute_clicks(impressions: DataFrame, clicks: DataFrame, attribution: Attribution) -> DataFrame:
    return attribute_to_impressions(impressions, clicks, links(clicks, None, attribution)[0])


def attribute_conversions(clicks: DataFrame, conversions: DataFrame, attribution: Attribution) -> DataFrame:
    # Attributed clicks have the impression's id under another name, too.
    own = clicks.drop(*(name for name in clicks.columns if name.startswith("owner_")))
    return attribute_to_causes(clicks, conversions, *links(own, conversions, attribution))


def labels_of(clicks: DataFrame, conversions: DataFrame) -> dict[tuple[str, int], Any]:
    """Returns (impression_id, time) -> what `oracle.labels` says of it, of attributed events."""
    rows = label_impressions({"click": clicks, "conversion": conversions}).collect()
    found = oracle.labels_of_rows(rows)
    assert len(found) == len(rows)
    return found


def impression(identifier: str, time_s: float, user: str = "u", item: str = "i") -> Event:
    return {"impression_id": identifier, "user_id": user, "item_id": item, "time_us": int(time_s * SECOND)}


def of_user(time_s: float, user: str = "u", item: str = "i") -> Event:
    return {"user_id": user, "item_id": item, "time_us": int(time_s * SECOND)}


def test_a_click_belongs_to_the_latest_impression_within_the_closed_window(spark: SparkSession) -> None:
    owners = {-0.000001: None, 0: "a", 1.999999: "a", 2: "b", 5: "b", 5.000001: None}
    impressions = frame(spark, [impression("a", 0), impression("b", 2)], IMPRESSIONS)
    clicks = frame(spark, [of_user(click_s) for click_s in owners], BY_USER[0])
    found = attribute_clicks(impressions, clicks, WINDOWS).collect()
    assert {row.time_us / SECOND: row[OWNER_ID] for row in found} == owners


def test_of_two_impressions_at_one_time_the_greater_id_gets_the_click(spark: SparkSession) -> None:
    impressions = frame(spark, [impression("b", 1), impression("a", 1)], IMPRESSIONS)
    clicks = frame(spark, [of_user(1), of_user(1, user="v")], BY_USER[0])
    found = {row.user_id: row[OWNER_ID] for row in attribute_clicks(impressions, clicks, WINDOWS).collect()}
    assert found == {"u": "b", "v": None}


def test_a_click_before_the_impression_that_its_id_names_counts_and_is_told(spark: SparkSession) -> None:
    impressions = frame(spark, [impression("a", 10)], IMPRESSIONS)
    times = {"early": 7, "too early": 6, "late": 13, "too late": 14}
    rows = [
        {"click_id": name, "impression_id": "a", "time_us": time_s * SECOND} for name, time_s in times.items()
    ]
    found = attribute_clicks(impressions, frame(spark, rows, BY_ID[0]), WINDOWS).collect()
    assert {row.click_id: (row[OWNER_ID], row[BEFORE_CAUSE]) for row in found} == {
        "early": ("a", True),
        "too early": (None, False),
        "late": ("a", False),
        "too late": (None, False),
    }


@pytest.mark.parametrize(
    ("which", "owners"),
    [
        ("last", {0.999999: None, 2.5: "a", 3: "b", 7: "b", 7.000001: None}),
        ("first", {0.5: None, 5: "a", 5.000001: "b", 7: "b", 7.000001: None}),
    ],
)
def test_a_conversion_belongs_to_the_last_or_first_click_within_the_closed_window(
    spark: SparkSession, which: str, owners: dict[float, str | None]
) -> None:
    attribution = WINDOWS.model_copy(update={"conversion_click": which})
    impressions = frame(spark, [impression("a", 0), impression("b", 2)], IMPRESSIONS)
    clicks = attribute_clicks(impressions, frame(spark, [of_user(1), of_user(3)], BY_USER[0]), attribution)
    conversions = frame(spark, [of_user(conversion_s) for conversion_s in owners], BY_USER[1])
    found = attribute_conversions(clicks, conversions, attribution).collect()
    assert {row.time_us / SECOND: row[OWNER_ID] for row in found} == owners


def test_a_conversion_before_the_click_that_its_id_names_does_not_count_and_is_told(
    spark: SparkSession,
) -> None:
    impressions = frame(spark, [impression("a", 0)], IMPRESSIONS)
    clicks = [{"click_id": "c", "impression_id": "a", "time_us": 2 * SECOND}]
    owned = attribute_clicks(impressions, frame(spark, clicks, BY_ID[0]), WINDOWS)
    conversions = [{"click_id": "c", "time_us": time_s * SECOND} for time_s in (1, 2, 6, 7)]
    found = attribute_conversions(owned, frame(spark, conversions, BY_ID[1]), WINDOWS).collect()
    assert {row.time_us // SECOND: (row[OWNER_ID], row[BEFORE_CAUSE]) for row in found} == {
        1: (None, True),
        2: ("a", False),
        6: ("a", False),
        7: (None, False),
    }


def test_a_conversion_of_an_orphan_click_finds_its_click_but_no_impression(spark: SparkSession) -> None:
    impressions = frame(spark, [impression("a", 0, user="v")], IMPRESSIONS)
    owned = attribute_clicks(impressions, frame(spark, [of_user(1)], BY_USER[0]), WINDOWS)
    found = attribute_conversions(owned, frame(spark, [of_user(2)], BY_USER[1]), WINDOWS).collect()
    assert [(row[CAUSE_TIME_US], row[OWNER_ID]) for row in found] == [(SECOND, None)]


def test_repeated_clicks_and_conversions_count_once_and_the_number_is_kept(spark: SparkSession) -> None:
    impressions = frame(spark, [impression("a", 0)], IMPRESSIONS)
    clicks = frame(spark, [of_user(1), of_user(1), of_user(2)], BY_USER[0])
    owned = attribute_clicks(impressions, clicks, WINDOWS)
    conversions = frame(spark, [of_user(3), of_user(3)], BY_USER[1])
    bought = attribute_conversions(owned, conversions, WINDOWS)
    assert labels_of(owned, bought) == {("a", 0): (3, 2, SECOND, 3 * SECOND)}


# Few values of everything, so that equal times, window edges and repeats are the rule.
times = st.integers(0, 12).map(lambda tick: tick * SECOND // 2)
users, items = st.sampled_from("uv"), st.sampled_from("ij")
id_numbers = st.integers(0, 7)


@st.composite
def logs(draw: st.DrawFn, by_impression_id: bool, by_click_id: bool) -> tuple[list[Event], ...]:
    identifiers = draw(st.lists(id_numbers, unique=True, max_size=6))
    impressions = [
        {"impression_id": f"i{n}", "user_id": draw(users), "item_id": draw(items), "time_us": draw(times)}
        for n in identifiers
    ]
    clicks = []
    for n in range(draw(st.integers(0, 6))):
        click = {"number": f"{n}", "user_id": draw(users), "item_id": draw(items), "time_us": draw(times)}
        if by_impression_id:
            click["impression_id"] = f"i{draw(id_numbers)}"
        if by_click_id:
            click["click_id"] = f"c{n}"
        clicks.append(click)
    conversions = []
    for n in range(draw(st.integers(0, 6))):
        conversion = {
            "number": f"{n}",
            "user_id": draw(users),
            "item_id": draw(items),
            "time_us": draw(times),
        }
        if by_click_id:
            conversion["click_id"] = f"c{draw(id_numbers)}"
        conversions.append(conversion)
    order = draw(st.randoms(use_true_random=False))
    for log in (impressions, clicks, conversions):
        order.shuffle(log)
    return impressions, clicks, conversions


@pytest.mark.parametrize("which", ["last", "first"])
@pytest.mark.parametrize("by_click_id", [False, True], ids=["conversions by user", "conversions by click_id"])
@pytest.mark.parametrize("by_impression_id", [False, True], ids=["clicks by user", "clicks by impression_id"])
@settings(
    max_examples=2,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
@given(data=st.data())
def test_labels_equal_brute_force(
    spark: SparkSession, data: st.DataObject, which: str, by_click_id: bool, by_impression_id: bool
) -> None:
    # Many small logs go through Spark at once: each in a world of its own, told apart by the ids' prefixes.
    attribution = WINDOWS.model_copy(update={"conversion_click": which})
    worlds = data.draw(
        st.lists(logs(by_impression_id, by_click_id), min_size=30, max_size=30), label="30 small logs"
    )
    # Beside the labels, which events come before their cause: by numbers, which are no part of a log.
    expected: dict[tuple[str, int], Any] = {}
    early: tuple[list[str], list[str]] = ([], [])
    merged: tuple[list[Event], ...] = ([], [], [])
    for number, world in enumerate(worlds):
        shown, clicked, bought_in_world = world
        labels = oracle.labels(shown, clicked, bought_in_world, 3, 4, which)
        for (identifier, time_us), label in labels.items():
            expected[f"{number}-{identifier}", time_us] = label
        early[0].extend(
            f"{number}-{click['number']}"
            for click in clicked
            if oracle.click_is_before_its_cause(click, shown, 3, by_impression_id)
        )
        early[1].extend(
            f"{number}-{conversion['number']}"
            for conversion in bought_in_world
            if oracle.conversion_is_before_its_cause(conversion, clicked, 4, by_click_id, which)
        )
        for log, events in zip(merged, world, strict=True):
            log += [
                {key: value if key == "time_us" else f"{number}-{value}" for key, value in event.items()}
                for event in events
            ]
    click_ids = ", impression_id string" * by_impression_id + ", click_id string" * by_click_id
    base = "number string, time_us bigint, user_id string, item_id string"
    partitions = data.draw(st.integers(1, 5), label="partitions")
    impressions = frame(spark, merged[0], IMPRESSIONS).repartition(partitions)
    clicks = frame(spark, merged[1], base + click_ids).repartition(partitions)
    conversions = frame(spark, merged[2], base + ", click_id string" * by_click_id)
    owned = attribute_clicks(impressions, clicks, attribution).persist()
    bought = attribute_conversions(owned, conversions, attribution).persist()
    assert labels_of(owned, bought) == expected
    assert sorted(row.number for row in owned.where(BEFORE_CAUSE).collect()) == sorted(early[0])
    assert sorted(row.number for row in bought.where(BEFORE_CAUSE).collect()) == sorted(early[1])
    owned.unpersist()
    bought.unpersist()


def test_an_orphan_whose_cause_comes_within_a_window_after_it_is_told_where_user_and_item_tell(
    spark: SparkSession,
) -> None:
    impressions = frame(spark, [impression("a", 10), impression("b", 20, user="v")], IMPRESSIONS)
    times = {"too early": 6, "early": 7, "late": 13, "too late": 14}
    clicks = frame(spark, [of_user(time_s) for time_s in times.values()], BY_USER[0])
    owned = attribute_clicks(impressions, clicks, WINDOWS)
    assert {row.time_us // SECOND: (row[OWNER_ID], row[BEFORE_CAUSE]) for row in owned.collect()} == {
        6: (None, False),
        7: (None, True),
        13: ("a", False),
        14: (None, False),
    }
    for which in ("last", "first"):
        attribution = WINDOWS.model_copy(update={"conversion_click": which})
        conversions = frame(spark, [of_user(time_s) for time_s in (1, 2, 17, 18.5)], BY_USER[1])
        found = attribute_conversions(owned, conversions, attribution).collect()
        assert {row.time_us // SECOND: (row[CAUSE_TIME_US], row[BEFORE_CAUSE]) for row in found} == {
            1: (None, False),
            2: (None, True),
            17: ((14 if which == "last" else 13) * SECOND, False),
            18: (None, False),
        }, which


@pytest.mark.parametrize("schemas", [BY_ID, BY_USER], ids=["by id", "by user and item"])
def test_no_plan_has_a_nested_loop_or_a_cartesian_product(
    spark: SparkSession, schemas: tuple[str, str]
) -> None:
    attribution = WINDOWS.model_copy(update={"conversion_click": "first"})
    impressions, clicks = frame(spark, [], IMPRESSIONS), frame(spark, [], schemas[0])
    owned = attribute_clicks(impressions, clicks, attribution)
    bought = attribute_conversions(owned, frame(spark, [], schemas[1]), attribution)
    assert_no_nested_loop(label_impressions({"click": owned, "conversion": bought}))


def assert_no_nested_loop(result: DataFrame) -> None:
    plan = result.select(F.expr("*"))._jdf.queryExecution().executedPlan().toString()
    assert "Window" in plan
    assert "NestedLoop" not in plan
    assert "Cartesian" not in plan
