"""Times of text, formats and zones, and local days, held against Python's zoneinfo."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.tables.log_files import MappedFiles
from esmm_spark.events.reading.day import parse_day
from esmm_spark.reading.local_days import day_number, day_of_time, start_of_day_us
from esmm_spark.reading.times import check_time_format, microseconds_of
from tests.events.small_logs import config

ZONES = ("America/New_York", "Europe/Berlin", "Asia/Shanghai", "Africa/Cairo", "Australia/Lord_Howe")
HOUR_US = 3_600_000_000


def log(**keys: Any) -> MappedFiles:
    return MappedFiles.model_validate({"path": "p", **keys})


def around_changes(zone: str) -> Iterator[datetime]:
    """Yields times of a zone every 20 minutes, of a day before to a day after each change of its clocks."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    while moment.year == 2026:
        after = moment + timedelta(days=1)
        if moment.astimezone(ZoneInfo(zone)).utcoffset() != after.astimezone(ZoneInfo(zone)).utcoffset():
            yield from ((moment + timedelta(minutes=minutes)) for minutes in range(-1440, 2880, 20))
        moment = after


@pytest.mark.parametrize("zone", ZONES)
def test_a_local_day_holds_the_times_that_zoneinfo_has_on_it(zone: str) -> None:
    hours = set()
    for moment in around_changes(zone):
        time_us = int(moment.timestamp()) * 1_000_000
        local = moment.astimezone(ZoneInfo(zone)).date()
        assert day_of_time(time_us, zone) == local
        day = parse_day(local.isoformat(), None, zone)
        assert day.start_us <= time_us < day.end_us
        hours.add((day.end_us - day.start_us) / HOUR_US)
    changes = {"Asia/Shanghai": set(), "Australia/Lord_Howe": {23.5, 24, 24.5}}
    assert hours == changes.get(zone, {23, 24, 25})


def test_as_of_is_of_the_days_zone_unless_it_says_otherwise() -> None:
    day = parse_day("2026-11-23", "2026-11-24T00:00:00", "Asia/Shanghai")
    assert (day.start_us, day.as_of_us) == (start_of_day_us(date(2026, 11, 22)) + 16 * HOUR_US, day.end_us)
    assert parse_day("2026-11-23", "2026-11-23T16:00:00Z", "Asia/Shanghai").as_of_us == day.end_us


@pytest.mark.spark
def test_text_without_an_offset_is_of_the_zone_and_days_are_zoneinfos(spark: SparkSession) -> None:
    for zone in ("America/New_York", "Europe/Berlin"):
        known = [moment.astimezone(ZoneInfo(zone)) for moment in around_changes(zone)]
        # Clocks that no one saw, too.
        clocks = {(moment.replace(tzinfo=None) + timedelta(minutes=m)) for m in (0, 30) for moment in known}
        rows = [
            (
                clock.isoformat(),
                clock.strftime("%d.%m.%Y %H:%M"),
                int(clock.replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000,
            )
            for clock in clocks
        ]
        lines = spark.createDataFrame(rows, "iso string, formatted string, expected bigint")
        of_zone = {"time_zone": zone, "time_unit": "iso"}
        zoned = lines.select(
            "expected",
            microseconds_of(lines, "iso", log(**of_zone)).alias("iso"),
            microseconds_of(lines, "formatted", log(**of_zone, time_format="dd.MM.yyyy HH:mm")).alias("own"),
            microseconds_of(
                lines.withColumn("iso", F.col("iso").cast("timestamp_ntz")), "iso", log(time_zone=zone)
            ).alias("typed"),
            day_number(F.col("expected"), zone).alias("day"),
        )
        for row in zoned.collect():
            assert row.iso == row.own == row.typed == row.expected
            days = (day_of_time(row.expected, zone) - date(1970, 1, 1)).days
            assert row.day == days


@pytest.mark.spark
def test_an_offset_in_the_text_counts_whatever_the_zone(spark: SparkSession) -> None:
    texts = ("2026-07-01T12:00:00Z", "2026-07-01 14:00:00+02:00", "2026-07-01T08:00:00.0-0400", "2026-07-01")
    lines = spark.createDataFrame([(text,) for text in texts], "time string")
    noon = start_of_day_us(date(2026, 7, 1)) + 12 * HOUR_US
    for zone, midnight in (("UTC", noon - 12 * HOUR_US), ("Asia/Shanghai", noon - 20 * HOUR_US)):
        found = lines.select(microseconds_of(lines, "time", log(time_zone=zone, time_unit="iso"))).collect()
        assert [row[0] for row in found] == [noon, noon, noon, midnight]
    formats = {"yyyyMMddHHmmssX": "20260701140000+02", "yyyy-MM-dd'X'HH": "2026-07-01X20"}
    for (pattern, text), kind in product(formats.items(), ("string",)):
        line = spark.createDataFrame([(text,)], f"time {kind}")
        keys = log(time_zone="Asia/Shanghai", time_format=pattern)
        assert line.select(microseconds_of(line, "time", keys)).collect()[0][0] == noon
    numbers = spark.createDataFrame([(20260701,)], "time bigint")
    day = numbers.select(microseconds_of(numbers, "time", log(time_format="yyyyMMdd"))).collect()[0][0]
    assert day == noon - 12 * HOUR_US


@pytest.mark.spark
def test_a_pattern_that_is_none_is_told(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match=r"logs.table.time_format = 'yyyy-bb' is no pattern of Spark's"):
        check_time_format(spark, log(time_format="yyyy-bb"), "logs.table")


def test_a_zone_is_passed_on_to_logs_that_have_none_of_their_own(tmp_path: Path) -> None:
    content = config(tmp_path).model_dump(mode="json")["logs"]["events"]
    for part in ("impressions", "clicks", "conversions"):
        del content[part]["time_zone"]
    content["clicks"]["time_zone"] = "UTC"
    events = type(config(tmp_path).funnel.events).model_validate({**content, "time_zone": "Asia/Shanghai"})
    assert events.impressions.time_zone == "Asia/Shanghai"
    assert events.clicks is not None
    assert events.clicks.time_zone == "UTC"
    with pytest.raises(ValidationError, match="no time zone: name one like Asia/Shanghai"):
        log(time_zone="Asia/Peking2")
    with pytest.raises(ValidationError, match="time_format is of text, and time_unit = s of numbers"):
        log(time_format="yyyy", time_unit="s")
