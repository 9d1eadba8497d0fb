"""Parquet files as pandas and other tools write them, one way at a time: read, whatever else is in them."""

from datetime import date, time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.event_config import ClickLog
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.events.reading.lines import read_events
from esmm_spark.reading.files import list_log_files

pytestmark = pytest.mark.spark

NOON_US = 1_795_435_200_000_000  # 2026-11-23 12:00
NANOSECONDS = pa.array([NOON_US * 1000])
USUAL = {"user": pa.array([11]), "item": pa.array(["i"]), "t": pa.array([NOON_US]).cast(pa.timestamp("us"))}

# Columns of a file, or of several days, that replace those above or come beside them.
ONE_FILE: dict[str, dict[str, pa.Array]] = {
    "timestamp[ns]": {"t": NANOSECONDS.cast(pa.timestamp("ns"))},
    "timestamp[ns, UTC]": {"t": NANOSECONDS.cast(pa.timestamp("ns", "UTC"))},
    "unsigned, not mapped": {"seen": pa.array([2**64 - 1], pa.uint64())},
    "a time of day, not mapped": {"hour": pa.array([time(12)])},
    "null throughout, not mapped": {"note": pa.nulls(1)},
    "a duration, not mapped": {"took": pa.array([5], pa.duration("us"))},
    "a tiny integer, not mapped": {"rank": pa.array([7], pa.uint8())},
    "names that differ in case": {"User": pa.array(["another"]), "ITEM": pa.array(["j"])},
}
DAYS: dict[str, list[dict[str, pa.Array]]] = {
    "int32, int64": [{"user": pa.array([11], pa.int32())}, {"user": pa.array([11], pa.int64())}],
    "int64, uint64": [{"user": pa.array([11])}, {"user": pa.array([11], pa.uint64())}],
    "string, large_string": [{"item": pa.array(["i"])}, {"item": pa.array(["i"], pa.large_string())}],
    "float, double": [{"user": pa.array([11], pa.float32())}, {"user": pa.array([11], pa.float64())}],
    "int64, double": [{"user": pa.array([11])}, {"user": pa.array([11.0])}],
    "int64, decimal": [{"user": pa.array([11])}, {"user": pa.array([11]).cast(pa.decimal128(20, 0))}],
    "empty, int64": [{name: pa.nulls(0) for name in USUAL}, {}],
}


def read(spark: SparkSession, folder: Path) -> list[Any]:
    log = ClickLog.model_validate({"path": str(folder), "time": "t", "user_id": "user", "item_id": "item"})
    ids = {name: (name, ColumnSource(column=name.removesuffix("_id"))) for name in ("user_id", "item_id")}
    files = list_log_files(log.path, None)
    lines = read_events(spark, "logs.events.clicks", log, ids, files, (date.min, date.max)).lines
    return [(row.user_id, row.item_id, row.time_us, row.reason) for row in lines.collect()]


@pytest.mark.parametrize("columns", ONE_FILE.values(), ids=ONE_FILE)
def test_a_file_of_this_kind_is_read(
    spark: SparkSession, tmp_path: Path, columns: dict[str, pa.Array]
) -> None:
    pq.write_table(pa.table({**USUAL, **columns}), tmp_path / "a.parquet")
    assert read(spark, tmp_path) == [("11", "i", NOON_US, None)]


def test_a_file_with_int96_timestamps_is_read(spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table(USUAL), tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    assert read(spark, tmp_path) == [("11", "i", NOON_US, None)]


@pytest.mark.parametrize("days", DAYS.values(), ids=DAYS)
def test_days_that_write_a_column_otherwise_are_read_alike(
    spark: SparkSession, tmp_path: Path, days: list[dict[str, pa.Array]]
) -> None:
    tables = [pa.table({**USUAL, **columns}) for columns in days]
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    rows = sum(table.num_rows for table in tables)
    assert read(spark, tmp_path) == [("11", "i", NOON_US, None)] * rows
