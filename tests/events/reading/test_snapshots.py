"""Catalogs as daily snapshots, and defaults, held against a plain look-up by day."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import MissingLogError
from esmm_spark.contracts.events.catalog import Catalog
from esmm_spark.events.features.catalogs import join_catalog
from esmm_spark.events.reading.day import parse_day
from esmm_spark.events.reading.lines import read_catalog
from esmm_spark.events.reading.snapshots import choose_snapshots
from tests.events.small_logs import write_json_lines

ZONE = "America/New_York"
HOUR_US = 3_600_000_000
# Clocks go back on 2026-11-01: a day of 25 hours. There is no snapshot of the 1st.
SNAPSHOTS = {
    "20261030": {"i": "a", "j": "b"},
    "20261031": {"i": "c"},
    "20261102": {"i": "d", "j": "e"},
    "20261103": {"i": "f"},
}


def catalog(path: Path, **keys: Any) -> Catalog:
    shared = {"key": "item", "key_column": "id", "file_format": "json", "features": {"brand": "brand"}}
    snapshots = {"day_folders": "dt", "lag_days": 1, "time_zone": ZONE}
    return Catalog.model_validate({"path": str(path), **shared, **snapshots, **keys})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    for day, rows in SNAPSHOTS.items():
        write_json_lines(
            tmp_path / f"dt={day}" / "a.json", [{"id": key, "brand": brand} for key, brand in rows.items()]
        )
    return tmp_path


def days_of(found: Any) -> list[str]:
    return sorted(day.strftime("%Y%m%d") for _, day in found.files)


def test_a_day_reads_the_snapshots_that_it_and_its_histories_need(written: Path) -> None:
    day = parse_day("2026-11-03", None, ZONE)
    assert days_of(choose_snapshots(catalog(written), day.start_us, day)) == ["20261102"]
    # Two hours before the day it is November 2, on which the snapshot of October 31 holds.
    since = day.start_us - 2 * HOUR_US
    assert days_of(choose_snapshots(catalog(written), since, day)) == ["20261031", "20261102"]
    assert choose_snapshots(catalog(written), since, day).warnings == []


def test_an_old_snapshot_is_told_and_none_is_refused(written: Path) -> None:
    day = parse_day("2026-11-02", None, ZONE)
    found = choose_snapshots(catalog(written), day.start_us, day)
    assert days_of(found) == ["20261031"]
    (warning,) = found.warnings
    assert "has no snapshot dt=2026-11-01: that of 2026-10-31 holds" in warning
    early = parse_day("2026-10-30", None, ZONE)
    with pytest.raises(MissingLogError, match=r"needs the snapshot dt=2026-10-29 of .*, or one before it"):
        choose_snapshots(catalog(written), early.start_us, early)
    late = catalog(written, lag_days=0)
    assert days_of(choose_snapshots(late, early.start_us, early)) == ["20261030"]


@pytest.mark.spark
def test_at_each_hour_the_newest_snapshot_before_the_local_day_holds(
    spark: SparkSession, written: Path
) -> None:
    first = parse_day("2026-10-31", None, ZONE).start_us
    times = [first + hour * HOUR_US for hour in range(5 * 24 + 1)]
    keys = ("i", "j", "k")
    asked = spark.createDataFrame([(k, t) for k in keys for t in times], "item_id string, time_us bigint")
    lines = read_catalog(spark, 0, catalog(written)).lines.where("reason is null and note is null")
    found = join_catalog(asked, lines, "item_id", True, {"brand": "none"}, "is_found")

    expected: dict[tuple[str, int], str] = {}
    for shown in (date(2026, 10, 31) + timedelta(days=number) for number in range(5)):
        known = max(day for day in SNAPSHOTS if day <= (shown - timedelta(days=1)).strftime("%Y%m%d"))
        of_day = parse_day(shown.isoformat(), None, ZONE)
        for time_us in (each for each in times if of_day.start_us <= each < of_day.end_us):
            expected |= {(key, time_us): SNAPSHOTS[known].get(key, "none") for key in keys}
    assert {(row.item_id, row.time_us): row["@brand"] for row in found.collect()} == expected
    assert len(expected) == len(keys) * len(times)
    missing = found.where("not is_found").count()
    assert missing == sum(brand == "none" for brand in expected.values())


def test_what_says_twice_when_a_row_holds_or_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="valid_from and day_folders both say when an entry holds"):
        catalog(tmp_path, valid_from="since")
    with pytest.raises(ValidationError, match="defaults colour are no attributes: name them in features"):
        catalog(tmp_path, defaults={"colour": "red"})
