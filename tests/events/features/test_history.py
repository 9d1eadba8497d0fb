"""History features, catalogs and crosses are point-in-time."""

import math
import random
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.events.history import History
from esmm_spark.events.features.catalogs import join_catalog
from esmm_spark.events.features.crosses import cross
from esmm_spark.events.features.history import count_histories, join_histories

HOUR = 3_600_000_000
DAY = 24 * HOUR
EVENTS = "user_id string, time_us bigint, value string"
QUERIES = "context_key string, user_id string, at_us bigint"

Row = tuple[str, int, str]


def history(**keys: Any) -> History:
    return History(**{"field": "h", "value": "category", "window_days": 2, **keys})


def streamed(
    of: History, events: list[Row], queries: list[tuple[str, int]]
) -> list[tuple[dict[str, float], list[str]]]:
    """Runs the pass over the rows as Spark would sort them, in small batches; pooled and un-pooled."""
    lag = of.lag_s * 1_000_000
    rows = [(user, time_us + lag, 1, number, value) for user, time_us, value in events for number in (0, 1)]
    rows += [(user, at_us, 0, 0, str(number)) for number, (user, at_us) in enumerate(queries)]
    rows.sort()
    names = ["user_id", "at_us", "kind", "history", "text"]
    batches = [
        pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True)) for row in rows[start : start + 3]])
        for start in range(0, len(rows), 3)
    ]
    found = {}
    for batch in count_histories(batches, [of, of], ["id", "@h", "@l"], [False, True]):
        for row in batch.to_pylist():
            found[int(row["id"])] = dict(row["@h"] or []), row["@l"] or []
    return [found[number] for number in range(len(queries))]


def past_of(of: History, events: list[Row], user: str, at_us: int) -> list[tuple[int, str]]:
    known_by = at_us - of.lag_s * 1_000_000
    return sorted(
        (time_us, value)
        for owner, time_us, value in events
        if owner == user and known_by - of.window_days * DAY <= time_us < known_by
    )[-of.last_n :]


def brute_force(of: History, events: list[Row], user: str, at_us: int) -> dict[str, float]:
    known_by = at_us - of.lag_s * 1_000_000
    counts: Counter[str] = Counter()
    for time_us, value in past_of(of, events, user, at_us):
        age_days = (known_by - time_us) / DAY
        counts[value] += 2 ** (-age_days / of.half_life_days) if of.half_life_days else 1  # type: ignore[assignment]
    return {value: math.log(1 + count) for value, count in counts.items()}


rows = st.tuples(
    st.sampled_from("uv"), st.integers(0, 40).map(lambda n: n * 2 * HOUR), st.sampled_from("abc")
)


@settings(max_examples=150, deadline=None)
@given(
    events=st.lists(rows, max_size=12),
    queries=st.lists(
        st.tuples(st.sampled_from("uv"), st.integers(0, 40).map(lambda n: n * 2 * HOUR)), max_size=6
    ),
    last_n=st.integers(1, 5),
    half_life_days=st.sampled_from([None, 0.5]),
    lag_s=st.sampled_from([0, 7200]),
)
@pytest.mark.slow
def test_counts_equal_brute_force(
    events: list[Row],
    queries: list[tuple[str, int]],
    last_n: int,
    half_life_days: float | None,
    lag_s: int,
) -> None:
    of = history(last_n=last_n, half_life_days=half_life_days, lag_s=lag_s)
    found = streamed(of, events, queries)
    for (user, at_us), (weights, newest_first) in zip(queries, found, strict=True):
        assert weights == pytest.approx(brute_force(of, events, user, at_us))
        assert newest_first == [value for _, value in past_of(of, events, user, at_us)][::-1]


@pytest.mark.parametrize("half_life_days", [None, 1.0])
@pytest.mark.parametrize("lag_s", [0, 3600])
def test_each_event_moved_past_the_impression_vanishes(lag_s: int, half_life_days: float | None) -> None:
    of = history(lag_s=lag_s, half_life_days=half_life_days)
    at_us = 50 * HOUR
    last_seen = at_us - lag_s * 1_000_000 - 1
    events = [("u", last_seen - n * HOUR, value) for n, value in enumerate("abcd")]
    ((everything, newest_first),) = streamed(of, events, [("u", at_us)])
    assert sorted(everything) == newest_first == list("abcd")
    for moved, (user, _, value) in enumerate(events):
        # The earliest time that must not be seen, the impression's own, and one after it.
        for time_us in (last_seen + 1, at_us, at_us + HOUR):
            others = [row for number, row in enumerate(events) if number != moved]
            (left,) = streamed(of, [*others, (user, time_us, value)], [("u", at_us)])
            (without,) = streamed(of, others, [("u", at_us)])
            assert left == without
            assert value not in left[0]
            assert value not in left[1]


@pytest.mark.spark
def test_spark_gives_what_the_pass_gives_in_any_order_and_partitioning(spark: SparkSession) -> None:
    draw = random.Random(1)
    of = history(last_n=3, lag_s=60)
    decayed = history(field="d", half_life_days=0.5)
    listed = history(field="l", last_n=3)
    events = [(draw.choice("uvw"), draw.randrange(60) * HOUR, draw.choice("abcd")) for _ in range(80)]
    queries = [(f"q{n}", draw.choice("uvw"), draw.randrange(70) * HOUR) for n in range(30)]
    results = []
    for partitions in (1, 3):
        draw.shuffle(events)
        frame = spark.createDataFrame(events, EVENTS).repartition(partitions)
        asked = spark.createDataFrame(queries, QUERIES).repartition(partitions)
        both = frame.withColumn("history", F.explode(F.array(*map(F.lit, range(3)))))
        found = join_histories(asked, both, [of, decayed, listed], "context_key", {"l"}).collect()
        results.append({row.context_key: (row["@h"], row["@d"], row["@l"]) for row in found})
    assert results[0] == results[1]
    for name, user, at_us in queries:
        plain, faded, newest_first = results[0][name]
        past = [value for _, value in past_of(listed, events, user, at_us)]
        assert (newest_first or []) == past[::-1]
        assert (plain or {}) == pytest.approx(brute_force(of, events, user, at_us))
        assert (faded or {}) == pytest.approx(brute_force(decayed, events, user, at_us))


@pytest.mark.spark
def test_a_catalog_is_joined_as_it_was_at_the_rows_time(spark: SparkSession) -> None:
    catalog = spark.createDataFrame(
        [
            ("i", 10, None, "x"),
            ("i", 20, None, "y"),
            ("i", 40, 50, "z"),
            ("j", 10, 15, "x"),
            ("j", 10, 15, "x"),
        ],
        "item_id string, valid_from_us bigint, valid_to_us bigint, `@brand` string",
    )
    asked = [("i", 9), ("i", 10), ("i", 19), ("i", 20), ("i", 49), ("i", 50), ("j", 14), ("j", 15), ("k", 10)]
    frame = spark.createDataFrame(asked, "item_id string, time_us bigint")
    found = join_catalog(frame, catalog, "item_id", is_versioned=True)
    plan = found._jdf.queryExecution().executedPlan().toString()
    assert "NestedLoop" not in plan
    assert "Cartesian" not in plan
    assert {(row.item_id, row.time_us): row["@brand"] for row in found.collect()} == dict(
        zip(asked, [None, "x", "x", "y", "z", None, "x", None, None], strict=True)
    )


@pytest.mark.spark
def test_a_cross_is_the_impressions_values_that_are_in_its_history(spark: SparkSession) -> None:
    frame = spark.createDataFrame(
        [
            ({"7": 1.5, "9": 0.5}, "7", ["7", "8", "9"]),
            ({"7": 1.5}, "8", ["8"]),
            (None, "7", ["7"]),
            ({"7": 1.0}, None, None),
        ],
        "h map<string, double>, one string, several array<string>",
    )
    found = frame.select(cross(frame, "h", "one").alias("one"), cross(frame, "h", "several").alias("several"))
    assert [(row.one, row.several) for row in found.collect()] == [
        ({"7": 1.5}, {"7": 1.5, "9": 0.5}),
        (None, None),
        (None, None),
        (None, None),
    ]
