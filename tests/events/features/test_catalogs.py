"""Tables of users and items: what is read, rejected and joined, and a whole day with both of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from pyspark.sql import DataFrame, DataFrameWriter, Row, SparkSession

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.events.catalog import Catalog
from esmm_spark.events.days import build_days
from esmm_spark.events.features.catalogs import join_catalog
from esmm_spark.events.reading.day import parse_day
from esmm_spark.events.reading.lines import read_catalog
from esmm_spark.files.manifest_file import read_manifest
from tests.events.small_logs import (
    DAYS,
    at,
    config,
    days_of,
    event,
    impression,
    row_of,
    rows_of,
    write_json_lines,
    write_log,
)

pytestmark = pytest.mark.spark

NOON_S = 1_795_435_200  # 2026-11-23 12:00
USERS = {"key": "user", "key_column": "user", "valid_from": "since", "valid_to": "until", "time_unit": "s"}


def users(path: Path, **keys: Any) -> Catalog:
    early = {"earliest_time": date(1970, 1, 1)}
    return Catalog(**{"path": str(path), **USERS, **early, "features": {"age": "age"}, **keys})


def test_of_a_users_rows_that_hold_the_one_that_began_last_is_taken(
    spark: SparkSession, tmp_path: Path
) -> None:
    table = {
        "user": ["u", "u", "v", "x", "x"],
        "since": [10, 20, 5, 10, 20],
        "until": [None, 30, None, 40, 30],
        "age": [6, 7, 8, 6, 7],
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    lines = read_catalog(spark, 0, users(tmp_path)).lines.where("reason is null")
    asked = [("u", 9), ("u", 10), ("u", 19), ("u", 20), ("u", 29), ("u", 30), ("v", 4), ("v", 99), ("w", 10)]
    # Of x one row lies within the other.
    asked += [("x", 19), ("x", 20), ("x", 29), ("x", 30), ("x", 39), ("x", 40)]
    rows = spark.createDataFrame([(u, s * 1_000_000) for u, s in asked], "user_id string, time_us bigint")
    found = join_catalog(rows, lines, "user_id", is_versioned=True).collect()
    ages = {(row.user_id, row.time_us // 1_000_000): row["@age"] for row in found}
    expected = [None, "6", "6", "7", "7", None, None, "8", None, "6", "7", "7", "6", "6", None]
    assert ages == dict(zip(asked, expected, strict=True))


def test_a_table_without_times_holds_always(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,user\n7,u\n")
    catalog = users(tmp_path, valid_from=None, valid_to=None, file_format="csv")
    lines = read_catalog(spark, 0, catalog).lines.where("reason is null")
    rows = spark.createDataFrame([("u", 0), ("u", 2**60), ("v", 1)], "user_id string, time_us bigint")
    found = join_catalog(rows, lines, "user_id", is_versioned=False).collect()
    assert sorted((row.user_id, row["@age"]) for row in found) == [("u", "7"), ("u", "7"), ("v", None)]


@pytest.mark.parametrize("value", [9.99, 1e-5, 1e7 + 0.5, 3.0, 7, "x", "11.0", "a b"])
def test_a_default_is_the_text_that_the_same_value_in_an_entry_has(
    spark: SparkSession, tmp_path: Path, value: str | float
) -> None:
    table = {"user": ["u"], "age": [value], "ages": [[value]]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    features = {"age": "age", "ages": "ages"}
    defaults = dict.fromkeys(features, value)
    catalog = users(tmp_path, valid_from=None, valid_to=None, features=features, defaults=defaults)
    lines = read_catalog(spark, 0, catalog).lines
    rows = spark.createDataFrame([("u", 0), ("v", 0)], "user_id string, time_us bigint")
    found = join_catalog(rows, lines, "user_id", False, catalog.defaults).collect()
    of_entry, of_default = sorted((row.user_id, row["@age"], row["@ages"]) for row in found)
    assert of_entry[1:] == of_default[1:]
    assert of_entry[2] == [of_entry[1]] != [None]


def test_each_bad_row_of_a_table_has_its_reason(spark: SparkSession, tmp_path: Path) -> None:
    good = {"user": "u", "since": 10, "until": 20, "age": 7}
    rows: list[dict[str, Any] | str] = [
        good,
        {**good, "until": None},
        {**good, "user": None},
        {**good, "since": "noon"},
        {**good, "since": None},
        {**good, "until": "noon"},
        {**good, "until": 10},
        {**good, "until": 5},
        "{",
    ]
    write_json_lines(tmp_path / "a.json", rows)
    found = read_catalog(spark, 0, users(tmp_path, file_format="json")).lines.collect()
    assert sorted(row.reason or "" for row in found) == [
        "",
        "",
        "malformed_line",
        "missing_id",
        "never_valid",
        "never_valid",
        "unparsable_time",
        "unparsable_time",
        "unparsable_time",
    ]
    assert {row.line is None for row in found if row.reason is None} == {True}
    assert {row.line for row in found if row.reason == "malformed_line"} == {"{"}


def test_entries_without_a_beginning_are_skipped_where_null_time_says_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    begins = (10, None, " ", "noon")
    rows = [{"user": "u", "since": since, "until": 20, "age": 7} for since in begins]
    write_json_lines(tmp_path / "a.json", rows)
    skipping = users(tmp_path, file_format="json", null_time="skip")
    found = read_catalog(spark, 0, skipping).lines.select("reason", "note").collect()
    assert [tuple(row) for row in found] == [
        (None, None),
        (None, "without_time"),
        (None, "without_time"),
        ("unparsable_time", None),
    ]
    with pytest.raises(ValidationError, match="null_time has no effect without valid_from: set valid_from"):
        users(tmp_path, null_time="skip", valid_from=None, valid_to=None)


@pytest.mark.parametrize(
    ("since", "until", "reason"),
    [
        (NOON_S * 1000, None, None),
        # Seconds, taken for milliseconds.
        (NOON_S, None, "time_out_of_range"),
        (NOON_S * 1000, NOON_S, "time_out_of_range"),
        (NOON_S * 1_000_000, None, "time_out_of_range"),
        # Since ever, and for ever.
        (0, 253_402_300_799_000, None),
        (-1, NOON_S * 1000, None),
    ],
)
def test_times_of_a_table_are_held_to_the_range_of_times_but_for_always(
    spark: SparkSession, tmp_path: Path, since: int, until: int | None, reason: str | None
) -> None:
    write_json_lines(tmp_path / "a.json", [{"user": "u", "since": since, "until": until, "age": 7}])
    in_ms = users(tmp_path, file_format="json", time_unit="ms", earliest_time=date(2000, 1, 1))
    (row,) = read_catalog(spark, 0, in_ms).lines.collect()
    assert row.reason == reason


def test_a_table_that_changes_its_columns_is_told_as_a_log_is(spark: SparkSession, tmp_path: Path) -> None:
    table = {"user": ["u"], "since": [1], "until": [2], "age": [7]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"catalogs.3.features.sex = 'sex' is no column of .*a.parquet"):
        read_catalog(spark, 3, users(tmp_path, features={"sex": "sex"}))
    pq.write_table(pa.table({**table, "country": ["x"]}), tmp_path / "b.parquet")
    (warning,) = read_catalog(spark, 3, users(tmp_path)).warnings
    assert "logs.events.catalogs.3: column country is new" in warning
    pq.write_table(pa.table({**table, "age": ["7"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b.parquet: column age is string, in .*a.parquet it is int64"):
        read_catalog(spark, 3, users(tmp_path))


@contextmanager
def watched() -> Iterator[tuple[list[int], list[str]]]:
    """Yields numbers of rows that reached the driver and plans that were run, of all jobs in the block."""
    numbers, plans = [], []
    with pytest.MonkeyPatch.context() as patched:
        frame_class = type(SparkSession.active().range(1))
        collect, write = frame_class.collect, DataFrameWriter.parquet

        def plan_of(frame: DataFrame) -> str:
            return str(frame._jdf.queryExecution().executedPlan().toString())

        def counting_collect(self: DataFrame) -> list[Row]:
            plans.append(plan_of(self))
            rows = collect(self)
            numbers.append(len(rows))
            return rows

        def watching_write(self: DataFrameWriter, *arguments: Any, **options: Any) -> None:
            plans.append(plan_of(self._df))
            write(self, *arguments, **options)

        def refuse(*_: Any) -> None:
            raise AssertionError("rows are brought to the driver")

        patched.setattr(frame_class, "collect", counting_collect)
        patched.setattr(DataFrameWriter, "parquet", watching_write)
        for name in ("toPandas", "toArrow", "toLocalIterator", "take", "tail"):
            patched.setattr(frame_class, name, refuse)
        yield numbers, plans


@pytest.mark.slow
def test_a_day_with_catalogs_brings_counts_alone_to_the_driver_and_loops_over_no_pairs(
    spark: SparkSession, tmp_path: Path
) -> None:
    logs, size = tmp_path / "logs", 400
    shown = [impression(f"i{n}", at(1, n / 100), f"u{n}", f"j{n % 50}") for n in range(size)]
    write_log(logs / "impressions", shown)
    bought = [event(at(1, n / 100 + 0.1), f"u{n}", f"j{n % 50}") for n in range(size)]
    before = [event(at(0, 5), f"u{n}", f"j{n % 50}") for n in range(size)]
    write_log(logs / "clicks", [*before, *bought])
    write_log(logs / "conversions", bought)
    # u0 has the first impression, at the start of the day, and grows older two hours later: when u200 comes.
    aged = [
        {"user": f"u{n}", "since": f"2026-11-{day}", "age": age}
        for n in range(size)
        for day, age in (("01", n), ("24T02:00:00", -n))
    ]
    write_json_lines(tmp_path / "users" / "a.json", [*aged, {"since": "2026-11-01", "age": 1}])
    (tmp_path / "items.csv").write_text("item,kind\n" + "".join(f"j{n},k{n % 7}\n" for n in range(50)))
    catalogs = [
        {
            **{"path": str(tmp_path / "users"), "file_format": "json", "key": "user", "key_column": "user"},
            **{"valid_from": "since", "time_unit": "iso", "features": {"age": "age"}},
        },
        {
            **{"path": str(tmp_path / "items.csv"), "file_format": "csv", "key": "item"},
            **{"key_column": "item", "features": {"category": "kind"}},
        },
    ]
    small = config(
        tmp_path,
        impressions={"features": {"item": "item_id"}},
        clicks={"features": {}},
        conversions={"features": {}},
        attribution={"conversion_click": "first", "conversion_window_s": 3600},
        catalogs=catalogs,
    )
    day = parse_day(DAYS[1], None)
    with watched() as (numbers, plans):
        build_days(spark, small, day, allowed_missing=("clicks", "conversions"))
    assert len(plans) > len(numbers) > 0
    assert sum(numbers) < 200 < size
    for plan in plans:
        assert "NestedLoop" not in plan
        assert "Cartesian" not in plan

    groups = {row["impression_id"][0]: row for row in rows_of(small, "examples", DAYS[1])}
    assert len(groups) == size
    for number in (1, 199, 200, 399):
        age, category = (number if number < 200 else -number), f"k{number % 50 % 7}"
        group = groups[f"i{number}"]
        assert group["context_rows"] == [row_of(small, "age", str(age)), row_of(small, "clicked", category)]
        assert group["impression_rows"][1:] == [
            row_of(small, "category", category),
            row_of(small, "cross", category),
        ]
        assert (group["click"], group["conversion"]) == ([1], [1])
    counts = days_of(read_manifest(small.paths.dataset))[day.name]
    assert counts.join["catalogs"] == {"0": size, "1": size}
    of_users, of_items = counts.sources[3:]
    assert (of_users.name, of_users.lines_read, of_users.rejects) == (
        "ds=2026-11-24.catalogs.0",
        2 * size + 1,
        {"missing_id": 1},
    )
    assert (of_items.lines_read, of_items.lines_accepted) == (50, 50)
    assert [row["reason"] for row in rows_of(small, "rejects", DAYS[1])] == ["missing_id"]
