"""Maturity and duplicates, from frames in memory."""

import random
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.event_config import EventLogs
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.events.counts import count_lines, rejects_of_day
from esmm_spark.events.join.labels import Labelled, label_day
from esmm_spark.events.join.maturity import is_mature
from esmm_spark.events.join.sources import DayLogs, label_ranges, time_ranges
from esmm_spark.events.reading.day import parse_day
from esmm_spark.events.reading.deduplication import reject_duplicates
from esmm_spark.events.whole_logs import count_events_per_day
from tests.events.small_logs import at, config

pytestmark = pytest.mark.spark

REASONS = "folder_day date, reason string, line string"
IMPRESSIONS = (
    f"impression_id string, user_id string, item_id string, context_key string, time_us bigint, {REASONS}"
)
EVENTS = f"user_id string, item_id string, time_us bigint, {REASONS}"
NO_REASON = (None, None, None)
HOUR_S = 3600


def labelled(
    spark: SparkSession, tmp_path: Path, immature: str, as_of: str | None, unclicked: str = "b"
) -> Labelled:
    funnel = config(tmp_path, immature=immature).funnel
    times = {"a": at(1, 1), unclicked: at(1, 2), "c": at(1, 3)}
    impressions = [(name, "u", name, name, time_us, *NO_REASON) for name, time_us in times.items()]
    impressions.append(("other day", "u", "a", "r", at(0, 23), *NO_REASON))
    clicks = [("u", "a", at(1, 1.5), *NO_REASON), ("u", "c", at(1, 3.5), *NO_REASON)]
    lines = {
        "impressions": spark.createDataFrame(impressions, IMPRESSIONS),
        "clicks": spark.createDataFrame(clicks, EVENTS),
        "conversions": spark.createDataFrame([("u", "c", at(2, 0), *NO_REASON)], EVENTS),
    }
    return label_day(funnel, DayLogs({}, lines, [], [], {}), parse_day("2026-11-24", as_of))


# Windows of 1 hour and 2 days: a is sure at day 3, 2:00, b an hour later, c yet an hour later.
@pytest.mark.parametrize(
    ("immature", "kept", "mature", "dropped"),
    [
        ("drop", ["a", "b"], {None}, 1),
        ("keep", ["a", "b", "c"], {None}, 0),
        ("flag", ["a", "b", "c"], {True, False}, 0),
    ],
)
def test_an_impression_whose_windows_end_after_as_of_is(
    spark: SparkSession, tmp_path: Path, immature: str, kept: list[str], mature: set[Any], dropped: int
) -> None:
    found = labelled(spark, tmp_path, immature, "2026-11-26T03:59:59")
    rows = {row.impression_id: row for row in found.impressions.collect()}
    assert sorted(rows) == kept
    assert {row.mature for row in rows.values()} == mature
    assert (found.immature, found.dropped) == (1, dropped)
    assert {name: (row.click, row.conversion) for name, row in rows.items()} == {
        name: label for name, label in {"a": (1, 0), "b": (0, 0), "c": (1, 1)}.items() if name in kept
    }
    found.unpersist()


def test_without_as_of_all_is_mature_and_the_digest_tells_labels_apart(
    spark: SparkSession, tmp_path: Path
) -> None:
    everything = labelled(spark, tmp_path, "drop", None)
    assert everything.immature == 0
    digest = everything.digest
    assert digest.startswith("3-2-")
    assert labelled(spark, tmp_path, "drop", None).digest == digest
    assert labelled(spark, tmp_path, "drop", "2026-11-26T03:59:59").digest != digest
    assert labelled(spark, tmp_path, "keep", "2026-11-26T03:59:59").digest == digest
    # As many impressions and the same clicks, but another impression without one.
    assert labelled(spark, tmp_path, "drop", None, unclicked="d").digest != digest


def test_maturity_begins_with_the_end_of_both_windows(spark: SparkSession, tmp_path: Path) -> None:
    attribution = {"click_window_s": HOUR_S, "conversion_window_s": 2 * HOUR_S}
    windows = config(tmp_path, attribution=attribution).funnel
    end = at(0, 3)
    times = spark.createDataFrame([(at(0, 0),), (at(0, 0) + 1,)], "time_us bigint")
    assert [row[0] for row in times.select(is_mature(F.col("time_us"), windows, end)).collect()] == [
        True,
        False,
    ]
    assert [row[0] for row in times.select(is_mature(F.col("time_us"), windows, None)).collect()] == [
        True,
        True,
    ]


def test_of_lines_with_one_id_on_a_day_the_first_is_kept_in_any_order(spark: SparkSession) -> None:
    lines = [
        ("a", "u", "i", "r", at(0, 1), *NO_REASON),
        ("a", "u", "i", "r", at(0, 2), *NO_REASON),
        ("a", "u", "i", "r", at(1, 1), *NO_REASON),
        ("b", "u", "i", "r", at(0, 1), *NO_REASON),
        ("b", "v", "i", "r", at(0, 1), *NO_REASON),
        ("b", "w", "i", "r", at(0, 0.5), None, "missing_id", "raw"),
        ("c", "u", "i", "r", at(0, 1), *NO_REASON),
        ("c", "u", "i", "r", at(0, 1), *NO_REASON),
    ]
    results = []
    for partitions in (1, 4):
        random.Random(partitions).shuffle(lines)
        frame = spark.createDataFrame(lines, IMPRESSIONS).repartition(partitions)
        rows = reject_duplicates(frame, "impression_id").collect()
        results.append(
            sorted((r.impression_id, r.user_id, r.time_us, r.reason or "", r.line or "") for r in rows)
        )
    assert results[0] == results[1]
    kept = [row[:3] for row in results[0] if not row[3]]
    assert [row for row in kept if row[0] != "b"] == [
        ("a", "u", at(0, 1)),
        ("a", "u", at(1, 1)),
        ("c", "u", at(0, 1)),
    ]
    assert len(kept) == 4
    assert len([row for row in results[0] if row[3] == "duplicate_impression"]) == 3
    duplicate = next(row for row in results[0] if row[3] == "duplicate_impression" and row[0] == "a")
    assert (
        duplicate[4]
        == f'{{"impression_id":"a","user_id":"u","item_id":"i","context_key":"r","time_us":{at(0, 2)}}}'
    )
    assert ("b", "w", at(0, 0.5), "missing_id", "raw") in results[0]


def test_the_ranges_that_are_read_hold_all_that_can_matter(tmp_path: Path) -> None:
    events = config(tmp_path).logs.events
    assert isinstance(events, EventLogs)
    day = parse_day("2026-11-24", None)
    # Windows of an hour and two days, history of two days; the first UTC day is read as a whole.
    last = at(2, 49) - 1
    assert time_ranges(Funnel(events, DEFAULT_TASKS), day) == {
        "impressions": (at(0, 0), at(2, 1) - 1),
        "clicks": (at(-1, 0), last),
        "conversions": (at(1, 0), last),
    }
    # Where clicks name their impression they may come before it.
    assert events.clicks is not None
    by_impression = events.clicks.model_copy(update={"impression_id": "id"})
    by_id = Funnel(events.model_copy(update={"clicks": by_impression, "history": []}), DEFAULT_TASKS)
    assert label_ranges(by_id, day) == {
        "impressions": (at(0, 22), at(2, 1) - 1),
        "clicks": (at(-2, 23), last),
        "conversions": (at(0, 23), last),
    }
    assert time_ranges(by_id, day)["clicks"] == (at(-2, 0), last)


@pytest.mark.parametrize("folders", [True, False], ids=["day folders", "no day folders"])
def test_each_line_of_a_log_is_accounted_for_once(spark: SparkSession, tmp_path: Path, folders: bool) -> None:
    day = parse_day("2026-11-24", "2026-11-24T12:00:00")
    this, other = (date(2026, 11, 24), date(2026, 11, 25)) if folders else (None, None)
    no_id = ("missing_id", "raw")
    lines = [
        ("a", "u", "i", "r", at(1, 1), this, None, None),
        ("a", "u", "i", "r", at(1, 2), this, "duplicate_impression", "raw"),
        ("late", "u", "i", "r", at(1, 3), other, None, None),
        ("tomorrow's", "u", "i", "r", at(2, 1), this, None, None),
        ("afternoon", "u", "i", "r", at(1, 13), this, None, None),
        (None, "u", "i", "r", at(1, 4), this, *no_id),
        (None, "u", "i", "r", None, this, *no_id),
        (None, "u", "i", "r", at(1, 4), other, *no_id),
        ("filtered", "u", "i", "r", at(1, 5), this, None, None),
        ("filtered", "u", "i", "r", None, other, None, None),
        ("of another folder", "u", "i", "r", at(2, 2), other, None, None),
    ]
    raw = spark.createDataFrame(lines, IMPRESSIONS)
    # Duplicates are found later, and nothing outside of the range is kept.
    known = "reason is not null or time_us <= " + str(day.as_of_us)
    judged = raw.where(known).where("impression_id is null or impression_id != 'filtered'")
    raw = raw.withColumn("reason", F.when(F.col("reason") == "missing_id", F.col("reason")))
    raw = raw.withColumn("note", F.when(F.col("impression_id") == "filtered", "filtered"))
    empty = raw.where("false")
    logs = DayLogs(
        {"impressions": raw, "clicks": empty, "conversions": empty},
        {"impressions": judged, "clicks": empty, "conversions": empty},
        [],
        [],
        {},
    )
    events = config(tmp_path).logs.events
    assert isinstance(events, EventLogs)
    funnel = Funnel(events, DEFAULT_TASKS)
    counted = count_lines(logs, funnel, day)
    source, clicks, _ = counted.sources

    assert counted.events_per_day == {
        "impressions": {"2026-11-24": 2},
        "clicks": {},
        "conversions": {},
    }
    assert counted.events_per_day == count_events_per_day(logs, funnel, day)
    assert clicks.lines_read == 0
    assert source.lines_accepted == 2
    # Without folders a bad line is every day's, and all lines are looked at.
    assert source.rejects == {"duplicate_impression": 1, "missing_id": 2 if folders else 3}
    assert source.notes == {
        "after_as_of": 1,
        "filtered": 1 if folders else 2,
        "other_days": 1 if folders else 2,
    }
    assert source.lines_read == (8 if folders else 11)
    rejects = rejects_of_day(logs, day).collect()
    assert sorted(row.reason for row in rejects) == ["duplicate_impression"] + ["missing_id"] * (
        2 if folders else 3
    )

    lost = logs._replace(lines={**logs.lines, "impressions": judged.limit(1)})
    with pytest.raises(CountMismatchError, match="lines read for ds=2026-11-24, but"):
        count_lines(lost, funnel, day)
