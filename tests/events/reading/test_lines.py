"""Raw lines to canonical ones: formats, time units, and what is rejected and why."""

import gzip
import json
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import TooManyRejectsError
from esmm_spark.contracts.event_config import ClickLog
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.events.reading.lines import read_events
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.reading.files import list_log_files
from tests.events.small_logs import (
    DAYS,
    at,
    config,
    days_of,
    event,
    impression,
    rows_of,
    write_json_lines,
    write_log,
)

pytestmark = pytest.mark.spark

KEY = "logs.events.clicks"
IDS = {name: (name, ColumnSource(column=name.removesuffix("_id"))) for name in ("user_id", "item_id")}
NOON_US = 1_795_435_200_000_000  # 2026-11-23 12:00


def read(spark: SparkSession, path: Path, **keys: Any) -> list[dict[str, Any]]:
    log = ClickLog(**{"path": str(path), "time": "t", "user_id": "user", "item_id": "item", **keys})
    files = list_log_files(log.path, log.day_folders)
    lines = read_events(spark, KEY, log, IDS, files, (date.min, date.max)).lines
    return [row.asDict() for row in lines.orderBy("line", "time_us").collect()]


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("s", pa.array([1_795_435_200], pa.int64())),
        ("s", pa.array([1_795_435_200.0], pa.float64())),
        ("ms", pa.array(["1795435200000"])),
        ("us", pa.array([NOON_US])),
        ("iso", pa.array(["2026-11-23T13:00:00+01:00"])),
        ("iso", pa.array(["2026-11-23 12:00:00"])),
        ("ms", pa.array([datetime(2026, 11, 23, 12, tzinfo=UTC)], pa.timestamp("us", "UTC"))),
    ],
    ids=["int s", "double s", "text ms", "us", "iso with zone", "iso", "timestamp"],
)
def test_one_noon_in_every_unit(spark: SparkSession, tmp_path: Path, unit: str, values: pa.Array) -> None:
    pq.write_table(pa.table({"t": values, "user": ["u"], "item": ["i"]}), tmp_path / "a.parquet")
    (row,) = read(spark, tmp_path, time_unit=unit)
    assert (row["time_us"], row["reason"]) == (NOON_US, None)


@pytest.mark.parametrize("file_format", ["json", "parquet"])
def test_names_that_spark_takes_for_globs_are_read_as_they_are(
    spark: SparkSession, tmp_path: Path, file_format: str
) -> None:
    folder = tmp_path / "log {a,b} ü%20"
    row = {"t": 1795435200, "user": "u", "item": "i"}
    if file_format == "json":
        write_json_lines(folder / "part[0].json", [row])
    else:
        folder.mkdir()
        pq.write_table(pa.table({key: [value] for key, value in row.items()}), folder / "part[0].parquet")
    (found,) = read(spark, folder, file_format=file_format, time_unit="s")
    assert (found["user_id"], found["time_us"]) == ("u", NOON_US)


def test_csv_and_json_say_the_same_whatever_the_order_of_columns(spark: SparkSession, tmp_path: Path) -> None:
    csv, json = tmp_path / "csv", tmp_path / "json"
    csv.mkdir()
    (csv / "a.csv").write_text('t,user,item,tags\n1795435200,"u ""x"", v",i,a\n')
    (csv / "b.csv").write_text("item,new,tags,t,user\nj,1,,1795435200,v\n")
    keys = {"time_unit": "s", "features": {"tags": "tags"}}
    rows = read(spark, csv, file_format="csv", **keys)
    found = sorted((row["user_id"], row["item_id"], row["time_us"], row["@tags"]) for row in rows)
    # A comma in an id is a reject, told below; what was read is right.
    assert found == [('u "x", v', "i", NOON_US, "a"), ("v", "j", NOON_US, None)]
    write_json_lines(
        json / "a.json",
        [
            {"t": 1795435200, "user": "u", "item": 7, "tags": ["a", "", "b"]},
            {"item": "j", "t": 1795435200, "user": "v", "tags": None},
        ],
    )
    rows = read(spark, json, file_format="json", **keys)
    found = sorted((row["user_id"], row["item_id"], row["time_us"], row["@tags"]) for row in rows)
    assert found == [("u", "7", NOON_US, ["a", "b"]), ("v", "j", NOON_US, None)]


def test_json_lines_may_lack_keys_and_weights_may_be_null(spark: SparkSession, tmp_path: Path) -> None:
    good = {"t": 1795435200, "user": 11.0, "item": "i"}
    features = {"features": {"prices": "prices", "brand": "brand"}}
    write_json_lines(tmp_path / "a.json", [good, {**good, "prices": None}])
    rows: list[dict[str, Any]] = [
        {**good, "prices": {"price": None, "": 2, "7.0": 0.5, "nan": float("nan")}},
        {**good, "prices": {"price": None}},
    ]
    # Nobody knows what a brand is until one comes, in a place where nobody looked.
    rows += [good] * 2000 + [{**good, "brand": brand} for brand in ("b", ["b"], {"b": 1})]
    lines = b"\xef\xbb\xbf" + "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(lines))
    found = read(spark, tmp_path, file_format="json", time_unit="s", **features)
    assert Counter(row["reason"] for row in found) == {None: 2005, "malformed_line": 2}
    assert {row["user_id"] for row in found} == {"11"}
    accepted = [row for row in found if row["reason"] is None]
    assert [row["@prices"] for row in accepted if row["@prices"]] == [{"7": 0.5}]
    assert [row["@brand"] for row in accepted if row["@brand"]] == ["b"]


@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_a_byte_order_mark_is_no_part_of_the_first_id_or_column_and_is_noted(
    spark: SparkSession, tmp_path: Path, file_format: str
) -> None:
    header, row = ("user,item,t\n", "u,i,1795435200\n")
    if file_format == "json":
        header, row = "", '{"user": "u", "item": "i", "t": 1795435200}\n'
    marked = b"\xef\xbb\xbf" + (header + row).encode()
    (tmp_path / f"a.{file_format}").write_bytes(marked)
    (tmp_path / f"b.{file_format}.gz").write_bytes(gzip.compress(marked))
    (tmp_path / f"c.{file_format}").write_text(header + row)
    keys: dict[str, Any] = {"time": "t", "time_unit": "s", "file_format": file_format}
    log = ClickLog.model_validate({"path": str(tmp_path), "user_id": "user", "item_id": "item", **keys})
    found = read_events(spark, KEY, log, IDS, list_log_files(log.path, None), (date.min, date.max))
    rows = [(row.user_id, row.item_id, row.time_us, row.reason) for row in found.lines.collect()]
    assert rows == [("u", "i", NOON_US, None)] * 3
    assert found.byte_order_marks == 2


def test_each_bad_line_has_its_reason_and_is_kept_as_it_was(spark: SparkSession, tmp_path: Path) -> None:
    good = {"t": 1795435200, "user": "u", "item": "i"}
    write_json_lines(
        tmp_path / "a.json",
        [
            good,
            '{"t": 1, "user": ',
            {**good, "user": None},
            {**good, "item": ""},
            {**good, "user": "a,b"},
            {**good, "item": "a\u0001b"},
            {**good, "t": "noon"},
            {**good, "t": None},
            {**good, "t": 1795435200000},
            {**good, "t": -1},
        ],
    )
    rows = read(spark, tmp_path, file_format="json", time_unit="s")
    reasons = sorted(row["reason"] or "" for row in rows)
    assert reasons == [
        "",
        "bad_id",
        "bad_id",
        "malformed_line",
        "missing_id",
        "missing_id",
        "time_out_of_range",
        "time_out_of_range",
        "unparsable_time",
        "unparsable_time",
    ]
    assert {row["line"] for row in rows if row["reason"] == "malformed_line"} == {'{"t": 1, "user": '}
    assert {row["line"] for row in rows if row["reason"] is None} == {None}
    noon = next(row["line"] for row in rows if row["line"] and "noon" in row["line"])
    assert noon == '{"user":"u","item":"i","t":"noon"}'


def test_a_line_in_a_folder_where_its_day_never_looks_is_rejected(
    spark: SparkSession, tmp_path: Path
) -> None:
    # The day before midnight and the first second of the day, late_days = 1.
    for folder, name in {"22": "2026-11-22", "23": "20261123", "24": "20261124", "25": "2026-11-25"}.items():
        rows = [{"t": 1_795_392_000 + shift, "user": folder, "item": "i"} for shift in (-1, 0)]
        write_json_lines(tmp_path / f"ds={name}" / "a.json", rows)
    rows = read(spark, tmp_path, file_format="json", time_unit="s", day_folders="ds")
    found = {(row["user_id"], row["time_us"] == 1_795_392_000 * 1_000_000): row["reason"] for row in rows}
    assert found == {
        ("22", False): None,
        ("22", True): None,
        ("23", False): None,
        ("23", True): None,
        ("24", False): "wrong_folder",
        ("24", True): None,
        ("25", False): "wrong_folder",
        ("25", True): "wrong_folder",
    }


def test_what_names_no_day_and_what_is_before_the_earliest_time_is_no_time(
    spark: SparkSession, tmp_path: Path
) -> None:
    no_times = (
        "10:00:00",
        "T10:00:00",
        "10:00:00-08:00",
        "2026",
        "2026-11",
        "2026-11-",
        "-2026-11-23",
        "now",
    )
    times = {
        " 2026-11-23T12:00:00Z": None,
        "2026-11-23": None,
        "1999-12-31 23:59:59.999999": "time_out_of_range",
        "2000-01-01": None,
        **dict.fromkeys(no_times, "unparsable_time"),
    }
    rows = [{"t": time, "user": "u", "item": f"i{number}"} for number, time in enumerate(times)]
    write_json_lines(tmp_path / "iso" / "a.json", rows)
    read_rows = read(spark, tmp_path / "iso", file_format="json", time_unit="iso")
    found = {row["item_id"]: row["reason"] for row in read_rows}
    assert {time: found[f"i{number}"] for number, time in enumerate(times)} == times

    # Seconds, taken for milliseconds; a log of the nineties may say so.
    old = {"t": 1_795_435_200, "user": "u", "item": "i"}
    write_json_lines(tmp_path / "s" / "a.json", [old])
    (row,) = read(spark, tmp_path / "s", file_format="json", time_unit="ms")
    assert row["reason"] == "time_out_of_range"
    (row,) = read(spark, tmp_path / "s", file_format="json", time_unit="ms", earliest_time=date(1970, 1, 1))
    assert (row["reason"], row["time_us"]) == (None, 1_795_435_200_000)


@pytest.mark.slow
def test_lines_read_are_examples_rejects_and_notes_of_a_dirty_day(
    spark: SparkSession, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    good = [impression(f"i{n}", at(1, n), item=f"j{n}") for n in range(4)]
    twice = [impression("i0", at(1, 5), item="j0"), impression("i0", at(1, 0), item="j0")]
    bad = [
        {**impression("", at(1, 1)), "impression_id": None},
        {**impression("x", at(1, 1)), "user_id": "a,b"},
    ]
    write_log(logs / "impressions", [*good, *twice, *bad])
    # A day late, and one of the day after that lies in its folder; an attribute that the format can't hold.
    write_log(logs / "impressions", [impression("late", at(1, 7)), impression("early", at(2, 0))], None)
    late = logs / "impressions" / "part-0.parquet"
    (logs / "impressions" / "ds=2026-11-25").mkdir()
    late.rename(logs / "impressions" / "ds=2026-11-25" / "part-0.parquet")
    write_log(
        logs / "impressions", [impression("tab", at(1, 8), item="a", category="a\x02b")], file="b.parquet"
    )
    clicks = [event(at(1, 0.5), item="j0", click_id="c0"), event(at(1, 0.6), item="j0", click_id="c0")]
    write_log(logs / "clicks", [*clicks, event(at(1, 3), item="nowhere", click_id="c1")])
    write_log(logs / "conversions", [event(at(1, 2), item="j0"), event(at(1, 2), item="nobody's")])
    dirty = config(tmp_path, clicks={"click_id": "click_id"})
    build_days(spark, dirty, parse_day(DAYS[1], None))
    manifest = read_manifest(dirty.paths.dataset)
    impressions, of_clicks, _ = days_of(manifest)["ds=2026-11-24"].sources
    assert impressions.rejects == {"bad_id": 1, "bad_token": 1, "duplicate_impression": 2, "missing_id": 1}
    assert (impressions.lines_read, impressions.lines_accepted, impressions.notes) == (10, 5, {})
    assert manifest.partitions["ds=2026-11-24"].impressions == 5
    assert (of_clicks.lines_read, of_clicks.rejects) == (3, {"duplicate_click": 1})
    rejects = rows_of(dirty, "rejects", DAYS[1])
    assert sorted(row["reason"] for row in rejects) == [
        "bad_id",
        "bad_token",
        "duplicate_click",
        "duplicate_impression",
        "duplicate_impression",
        "missing_id",
    ]
    join = days_of(manifest)["ds=2026-11-24"].join
    assert (join["clicks"]["total"], join["clicks"]["matched"], join["clicks"]["orphans"]) == (2, 1, 1)
    assert (join["conversions"]["matched"], join["conversions"]["orphans"]) == (1, 1)
    assert join["delay_s"] == {"clicks": {"<= 3600": 1}, "conversions": {"<= 21600": 1}}
    assert join["top_keys"]["user_id"][0][:2] == ["u", 6]

    strict = dirty.model_copy(update={"logs": dirty.logs.model_copy(update={"max_reject_fraction": 0.1})})
    with pytest.raises(TooManyRejectsError, match=r"5 of 10 lines|4 of 10 lines"):
        build_days(spark, strict, parse_day(DAYS[1], None))
    assert read_manifest(dirty.paths.dataset) == manifest
