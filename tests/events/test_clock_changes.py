"""Local days of 23 and 25 hours, from text without an offset to labels, against zoneinfo and plain loops."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pyspark.sql import SparkSession

from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.files.manifest_file import read_manifest
from tests.events import oracle
from tests.events.small_logs import DAY_S, Event, config, event, impression, rows_of, write_json_lines

pytestmark = [pytest.mark.spark, pytest.mark.slow]

ZONE = "America/New_York"
LOGS = ("impressions", "clicks", "conversions")


def moment(text: str) -> datetime:
    """Returns the time of a local text: of two the earlier one, of none as if clocks had not changed."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE))


def later(text: str, minutes: int) -> str:
    """Returns what a clock shows that nobody changes."""
    return (datetime.fromisoformat(text) + timedelta(minutes=minutes)).isoformat()


def written_logs(day: str) -> dict[str, list[Event]]:
    """Returns an impression each half hour, from before the day until after it, and what follows."""
    start, end = (moment(f"{each}T00:00:00").astimezone(UTC) for each in (day, date_after(day)))
    logs: dict[str, list[Event]] = {log: [] for log in LOGS}
    for number in range(int((end - start) / timedelta(minutes=30)) + 12):
        local = (start + timedelta(hours=-3, minutes=30 * number)).astimezone(ZoneInfo(ZONE))
        text, user = local.replace(tzinfo=None).isoformat(), f"u{number}"
        logs["impressions"].append({**impression(f"i{number}", 0, user), "time": text})
        if number % 3 == 0:
            logs["clicks"].append({**event(0, user), "time": later(text, 40)})
        if number % 6 == 0:
            logs["conversions"].append({**event(0, user), "time": later(text, 60)})
    return logs


def date_after(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def timed(line: Event) -> Event:
    return {**line, "time_us": round(moment(line["time"]).timestamp()) * oracle.SECOND}


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25)])
def test_a_day_on_which_clocks_change_has_its_own_impressions_and_their_labels(
    spark: SparkSession, tmp_path: Path, day: str, hours: int
) -> None:
    logs = written_logs(day)
    for log, lines in logs.items():
        for ds in {line["time"][:10] for line in lines}:
            of_day = [line for line in lines if line["time"].startswith(ds)]
            write_json_lines(tmp_path / "logs" / log / f"ds={ds}" / "a.json", of_day)
    files = {"file_format": "json", "time_unit": "iso"}
    local = config(tmp_path, time_zone=ZONE, **{log: dict(files) for log in LOGS})
    build_days(spark, local, parse_day(day, None, ZONE))

    shown, clicks, conversions = ([timed(line) for line in logs[log]] for log in LOGS)
    positive = oracle.labels(shown, clicks, conversions, 3600, 2 * DAY_S, "last")
    ours = [line for line in shown if moment(line["time"]).date().isoformat() == day]
    assert len(ours) == 2 * hours
    expected = {
        line["impression_id"]: (
            line["time_us"],
            *positive.get((line["impression_id"], line["time_us"]), (0, 0, None, None)),
        )
        for line in ours
    }
    columns = ("time_us", "num_clicks", "num_conversions", "click_time_us", "conversion_time_us")
    found = {
        row["impression_id"]: tuple(row[name] for name in columns) for row in rows_of(local, "labels", day)
    }
    assert found == expected
    assert {clicked > 0 for _, clicked, *_ in found.values()} == {False, True}
    assert read_manifest(local.paths.dataset).partitions[f"ds={day}"].impressions == len(ours)
