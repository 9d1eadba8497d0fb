"""With `ingest_time` a day is what was known by `--as-of`, whatever had happened and came after."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.files.manifest_file import read_manifest
from tests.events.small_logs import (
    DAYS,
    Event,
    at,
    config,
    days_of,
    event,
    impression,
    row_of,
    rows_of,
    write_json_lines,
)

pytestmark = [pytest.mark.spark, pytest.mark.slow]


def soon(line: Event) -> Event:
    return {**line, "arrived": line["time"] + 1}


def late(line: Event) -> Event:
    return {**line, "arrived": at(1, 12) + 1}


def test_an_event_that_arrives_after_as_of_changes_no_feature_and_no_label(
    spark: SparkSession, tmp_path: Path
) -> None:
    logs = {
        "impressions": [
            soon(impression("a", at(1, 2))),
            soon(impression("b", at(1, 3), item="j")),
            late(impression("c", at(1, 2.5))),
        ],
        # Late ones would be in the histories of a and b, and the label of b.
        "clicks": [
            soon(event(at(1, 1), item="k")),
            soon(event(at(1, 2.1))),
            late(event(at(1, 1.5), item="l")),
            late(event(at(1, 3.1), item="j")),
        ],
        "conversions": [soon(event(at(1, 4))), late(event(at(1, 5), item="j"))],
    }
    files = {"file_format": "json", "day_folders": None, "ingest_time": "arrived"}
    known = config(tmp_path, **dict.fromkeys(logs, files))
    for name, rows in logs.items():
        write_json_lines(tmp_path / "logs" / name / "a.json", rows)
    build_days(spark, known, parse_day(DAYS[1], f"{DAYS[1]}T12:00:00"))

    labels = rows_of(known, "labels", DAYS[1])
    assert {row["impression_id"]: (row["click"], row["conversion"]) for row in labels} == {
        "a": (1, 1),
        "b": (0, 0),
    }
    clicked = {name: row_of(known, "clicked", f"c-{name}") for name in "kil"}
    histories = {
        group["impression_id"][0]: set(group["context_rows"]) & set(clicked.values())
        for group in rows_of(known, "examples", DAYS[1])
    }
    assert histories == {"a": {clicked["k"]}, "b": {clicked["k"], clicked["i"]}}
    sources = days_of(read_manifest(known.paths.dataset))[f"ds={DAYS[1]}"].sources
    assert [source.notes.get("after_as_of") for source in sources] == [1, 2, 1]
