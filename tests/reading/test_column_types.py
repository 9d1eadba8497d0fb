"""Every type that a Parquet file can have, as id, time and attribute, and in a column that nobody mapped."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.event_config import ClickLog
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.events.reading.lines import read_events
from esmm_spark.reading.columns import CheckedColumns, check_columns, read_log_schemas
from esmm_spark.reading.files import list_log_files
from esmm_spark.reading.raw_columns import read_raw
from esmm_spark.reading.values import attribute_value, is_inexact, quoted, text_value

NOON = datetime(2026, 11, 23, 12)
NOON_UTC = NOON.replace(tzinfo=UTC)
KEY = "logs.events.clicks"
IDS = {name: (name, ColumnSource(column=name.removesuffix("_id"))) for name in ("user_id", "item_id")}
COLUMNS = {"time": "t", "user_id": "user", "item_id": "item"}
NOON_US = 1_795_435_200_000_000
NANOS = pa.scalar(NOON_US * 1000 + 999, pa.int64())
SCALAR, ID_AND_TEXT, LISTED, WEIGHED = (
    {"id", "time", "attribute"},
    {"id", "attribute"},
    {"attribute"},
    {"attribute"},
)


def column(value: Any, kind: pa.DataType) -> pa.Array:
    return pa.array([value], kind)


def weights(key: Any, kind: pa.DataType, weight: pa.DataType) -> pa.Array:
    return pa.array([[(key, 1), ("b" if isinstance(key, str) else 5, None)]], pa.map_(kind, weight))


# name -> (the column, what it may be mapped as, its value as an attribute)
TABLE: dict[str, tuple[pa.Array, set[str], Any]] = {
    "int8": (column(11, pa.int8()), SCALAR, "11"),
    "int16": (column(11, pa.int16()), SCALAR, "11"),
    "int32": (column(11, pa.int32()), SCALAR, "11"),
    "int64": (column(2**62 + 1, pa.int64()), SCALAR, str(2**62 + 1)),
    "uint8": (column(255, pa.uint8()), SCALAR, "255"),
    "uint16": (column(2**16 - 1, pa.uint16()), SCALAR, str(2**16 - 1)),
    "uint32": (column(2**32 - 1, pa.uint32()), SCALAR, str(2**32 - 1)),
    "uint64": (column(2**64 - 1, pa.uint64()), SCALAR, str(2**64 - 1)),
    "whole float": (column(11.0, pa.float32()), SCALAR, "11"),
    "float": (column(0.1, pa.float32()), SCALAR, "0.1"),
    "whole double": (column(11.0, pa.float64()), SCALAR, "11"),
    "large double": (column(1e15, pa.float64()), SCALAR, "1000000000000000"),
    "double": (column(-0.5, pa.float64()), SCALAR, "-0.5"),
    "nan": (column(float("nan"), pa.float64()), SCALAR, None),
    "whole decimal": (column(Decimal("110.00"), pa.decimal128(10, 2)), SCALAR, "110"),
    "decimal": (column(Decimal("11.50"), pa.decimal128(10, 2)), SCALAR, "11.5"),
    "decimal without scale": (column(Decimal("110"), pa.decimal128(38, 0)), SCALAR, "110"),
    "decimal256": (column(Decimal("11.00"), pa.decimal256(20, 2)), SCALAR, "11"),
    "wide decimal": (column(Decimal("11.00"), pa.decimal256(40, 2)), set(), None),
    "string": (column("0011", pa.string()), SCALAR, "0011"),
    "text of a double": (column("11.0", pa.string()), SCALAR, "11"),
    "text of a version": (column("1.10.0", pa.string()), SCALAR, "1.10.0"),
    "large_string": (column("x", pa.large_string()), SCALAR, "x"),
    "dictionary": (column("x", pa.string()).dictionary_encode(), SCALAR, "x"),
    "binary": (column(b"x", pa.binary()), SCALAR, "x"),
    "large_binary": (column(b"x", pa.large_binary()), SCALAR, "x"),
    "fixed_size_binary": (column(b"xy", pa.binary(2)), set(), None),
    "boolean": (column(True, pa.bool_()), ID_AND_TEXT, "true"),
    "date32": (column(date(2026, 11, 23), pa.date32()), SCALAR, "2026-11-23"),
    "date64": (column(date(2026, 11, 23), pa.date64()), SCALAR, "2026-11-23"),
    "time32": (column(time(12), pa.time32("ms")), set(), None),
    "time64": (column(time(12), pa.time64("ns")), set(), None),
    "duration": (column(timedelta(1), pa.duration("us")), set(), None),
    "timestamp[s]": (column(NOON, pa.timestamp("s")), SCALAR, "2026-11-23 12:00:00"),
    "timestamp[ms]": (column(NOON, pa.timestamp("ms")), SCALAR, "2026-11-23 12:00:00"),
    "timestamp[us]": (column(NOON, pa.timestamp("us", "UTC")), SCALAR, "2026-11-23 12:00:00"),
    "timestamp[ns]": (pa.array([NANOS]).cast(pa.timestamp("ns")), SCALAR, "2026-11-23 12:00:00"),
    "timestamp[ns, zone]": (
        pa.array([NANOS]).cast(pa.timestamp("ns", "Europe/Berlin")),
        SCALAR,
        "2026-11-23 12:00:00",
    ),
    "null": (pa.nulls(1), SCALAR, None),
    "list": (column(["a", None, "", "11.0"], pa.list_(pa.string())), LISTED, ["a", "11"]),
    "list of uint32": (column([2**32 - 1], pa.list_(pa.uint32())), LISTED, [str(2**32 - 1)]),
    "list of doubles": (column([11.0, 0.5, None], pa.large_list(pa.float64())), LISTED, ["11", "0.5"]),
    "fixed_size_list": (column([1, 2], pa.list_(pa.int8(), 2)), LISTED, ["1", "2"]),
    "list of nulls": (column([None], pa.list_(pa.null())), SCALAR, None),
    "list of lists": (column([[1]], pa.list_(pa.list_(pa.int64()))), set(), None),
    "list of structs": (column([{"a": 1}], pa.list_(pa.struct({"a": pa.int64()}))), set(), None),
    "map": (weights("a", pa.string(), pa.float64()), WEIGHED, {"a": 1.0}),
    "map of doubles": (weights(11.0, pa.float64(), pa.float32()), WEIGHED, {"11": 1.0}),
    "map of decimals": (weights("7", pa.string(), pa.decimal128(5, 2)), WEIGHED, {"7": 1.0}),
    "map to text": (column([("a", "1")], pa.map_(pa.string(), pa.string())), set(), None),
    "struct": (column({"price": 1}, pa.struct({"price": pa.int64()})), set(), None),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with all of them, and with columns whose names only just differ."""
    path = tmp_path_factory.mktemp("types") / "a.parquet"
    others = {"User": pa.array(["other"]), "user": pa.array(["u"]), "a`b.c d": pa.array(["odd"])}
    columns = {name: values for name, (values, _, _) in TABLE.items()}
    pq.write_table(pa.table({**columns, **others, "t": pa.array([NOON_US])}), path)
    return str(path)


def check(file: str, wanted: dict[str, str]) -> CheckedColumns:
    return check_columns("logs.events.clicks", read_log_schemas([(file, None)], "parquet"), wanted)


@pytest.mark.parametrize("use", ["id", "time", "attribute"])
def test_a_type_is_taken_or_refused_in_one_line_that_names_column_type_and_file(file: str, use: str) -> None:
    key = {"id": "user_id", "time": "time", "attribute": "features.x"}[use]
    for name, (_, uses, _) in TABLE.items():
        if use in uses:
            check(file, {key: name})
            continue
        with pytest.raises(InputError) as told:
            check(file, {key: name})
        message = str(told.value)
        assert f"logs.events.clicks.{key}: column {name} is " in message, name
        assert "a.parquet, which can't be" in message, name
        assert "\n" not in message


@pytest.mark.spark
def test_a_value_has_one_text_whatever_its_type(spark: SparkSession, file: str) -> None:
    names = {name: expected for name, (_, uses, expected) in TABLE.items() if uses}
    files = read_log_schemas([(file, None)], "parquet")
    types = check(file, {f"features.{name}": name for name in [*names, "a`b.c d"]}).types
    ((raw, _),) = read_raw(spark, files, "parquet", types)
    scalars = [name for name in names if "id" in TABLE[name][1]]

    def inexact(name: str) -> Column:
        found = is_inexact(raw, name)
        return F.lit(False) if found is None else F.coalesce(found, F.lit(False))

    row = raw.select(
        *(attribute_value(raw, name).alias(f"a{place}") for place, name in enumerate(names)),
        F.array(*(text_value(F.col(quoted(name)), raw.schema[name].dataType) for name in scalars)).alias(
            "ids"
        ),
        F.array(
            *(
                F.lit(False) if inexact is None else F.coalesce(inexact, F.lit(False))
                for inexact in (is_inexact(raw, name) for name in ("large double", "float"))
            )
        ).alias("inexact"),
        attribute_value(raw, "a`b.c d").alias("odd"),
    ).collect()[0]
    found = {name: row[f"a{place}"] for place, name in enumerate(names)}
    assert found == names
    assert row.ids == [names[name] for name in scalars]
    assert (row.inexact, row.odd) == ([False, False], "odd")


@pytest.mark.spark
def test_a_log_reads_mapped_columns_alone_and_files_may_widen_them(
    spark: SparkSession, file: str, tmp_path: Path
) -> None:
    """Days of one log: integers, the same with a gap, unsigned, text of two kinds, times of each kind."""
    pq.write_table(pa.table(TABLE["struct"][0].flatten(), ["x"]), tmp_path / "unused.parquet")
    (tmp_path / "unused.parquet").unlink()
    ints = [
        column(11, pa.int32()),
        column(11, pa.int64()),
        column(11.0, pa.float64()),
        column(11, pa.uint64()),
    ]
    texts = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string()]
    nanos = pa.array([NOON_US * 1000])
    times = [
        nanos.cast(pa.timestamp("ns")),
        nanos.cast(pa.timestamp("ns", "UTC")),
        column(NOON, pa.timestamp("ms")),
        column(NOON_UTC, pa.timestamp("us", "UTC")),
    ]
    everything = {f"unmapped {name}": values for name, (values, _, _) in TABLE.items()}
    for day, (user, text, at) in enumerate(zip(ints, texts, times, strict=True)):
        columns = {"User": pa.array(["not this one"]), "user": user, "item": column("i", text), "t": at}
        pq.write_table(pa.table({**columns, **everything}), tmp_path / f"{day}.parquet")
    pq.write_table(
        pa.table({"user": ints[0], "item": column("i", pa.string()), "t": nanos.cast(pa.timestamp("ns"))}),
        tmp_path / "int96.parquet",
        use_deprecated_int96_timestamps=True,
    )
    # Of an empty day pandas knows no types.
    pq.write_table(pa.table({name: pa.nulls(0) for name in ("user", "item", "t")}), tmp_path / "none.parquet")
    log = ClickLog.model_validate({**COLUMNS, "path": str(tmp_path), "features": {"item": "item"}})
    lines = read_events(spark, KEY, log, IDS, list_log_files(log.path, None), (date.min, date.max)).lines
    rows = [(row.user_id, row.item_id, row["@item"], row.time_us, row.reason) for row in lines.collect()]
    assert rows == [("11", "i", "i", NOON_US, None)] * 5


@pytest.mark.spark
def test_an_id_that_was_rounded_is_rejected(spark: SparkSession, tmp_path: Path) -> None:
    ids = pa.array([2.0**53, 2.0**53 - 1, None, float("nan")])
    items = pa.array(["i"] * 4)
    pq.write_table(
        pa.table({"user": ids, "item": items, "t": pa.array([NOON_US] * 4)}), tmp_path / "a.parquet"
    )
    log = ClickLog.model_validate({**COLUMNS, "path": str(tmp_path), "time_unit": "us"})
    lines = read_events(spark, KEY, log, IDS, list_log_files(log.path, None), (date.min, date.max)).lines
    found = sorted((row.reason or "", row.user_id or "") for row in lines.collect())
    assert found == [
        ("", "9007199254740991"),
        ("bad_id", "9007199254740992"),
        ("missing_id", ""),
        ("missing_id", ""),
    ]
