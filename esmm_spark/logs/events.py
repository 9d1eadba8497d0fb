"""Event logs to canonical lines: a row per raw line, ids as text, one time unit, and why it is rejected.

impression_id, click_id, conversion_id, user_id, item_id, context_key   string, those that the log has
time_us      bigint   event time, microseconds since 1970, UTC
@<name>      string | array<string> | map<string, double>   an attribute, null where empty
folder_day   date     the day of its file's folder; null where the log has no day folders
reason       string   null, or why the line is rejected: the first of REASONS that is true of it
line         string   the mapped columns as JSON, for rejects/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from itertools import groupby

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import ArrayType, DataType, DoubleType, MapType, StringType, StructField, StructType

from esmm_spark import storage
from esmm_spark.event_config import Catalog, ClickLog, ConversionLog, ImpressionLog
from esmm_spark.logs.event_files import (
    LogFile,
    check_columns,
    list_log_files,
    read_columns,
    read_parquet_schema,
)

MALFORMED_LINE = "malformed_line"  # no JSON object of the mapped types, or another number of CSV columns
MISSING_ID = "missing_id"  # a mapped id is null or empty
BAD_ID = (
    "bad_id"  # an id holds a comma or a control character, which the examples' writer could not tell apart
)
UNPARSABLE_TIME = "unparsable_time"  # no time of the config's unit
TIME_OUT_OF_RANGE = "time_out_of_range"  # before 1970 or after 2099: most likely another unit
WRONG_FOLDER = "wrong_folder"  # in a day's folder where an event of its time is never looked for
NEVER_VALID = "never_valid"  # a catalog's row whose valid_to is not after its valid_from
REASONS = (MALFORMED_LINE, MISSING_ID, BAD_ID, UNPARSABLE_TIME, TIME_OUT_OF_RANGE, WRONG_FOLDER)

ID_KEYS = ("impression_id", "click_id", "conversion_id", "user_id", "item_id", "context_key")

_CORRUPT = "__corrupt"
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DAY_US = 86_400_000_000
_END_US = 4_102_444_800_000_000  # 2100-01-01
_BAD_ID_PATTERN = "[,\\x00-\\x1f]"


@dataclass(frozen=True)
class EventLines:
    """The lines of one log or catalog, and what was noticed about its files.

    Attributes:
        lines: of all files.
        near: of those alone in whose folders lines of the day may lie; for a catalog, all.
        warnings: about new columns.
    """

    lines: DataFrame
    near: DataFrame
    warnings: list[str]


def attribute(name: str) -> Column:
    """Returns the column of an attribute in canonical lines."""
    return F.col(attribute_column(name))


def attribute_column(name: str) -> str:
    """Returns the quoted name of an attribute's column in canonical lines."""
    return f"`@{name}`"


def read_events(
    spark: SparkSession,
    name: str,
    log: ImpressionLog | ClickLog | ConversionLog,
    folders: tuple[date, date],
    near: tuple[date, date],
) -> EventLines:
    """Returns the lines of a log as described above.

    Args:
        spark: the session.
        name: `impressions`, `clicks` or `conversions`.
        log: its config.
        folders: the first and the last day whose folder is read, where the log has day folders.
        near: the first and the last of them where lines of the day may lie.

    Raises:
        ConfigError: a mapped column isn't there.
        InputError: no files, or files that don't agree.
    """
    ids = {key: getattr(log, key) for key in ID_KEYS if getattr(log, key, None) is not None}
    if isinstance(log, ImpressionLog):
        ids.setdefault("context_key", log.user_id)
    wanted = {**ids, "time": log.time, **{f"features.{key}": value for key, value in log.features.items()}}
    files = read_columns(list_log_files(log.path, log.day_folders, *folders), log.file_format)
    warnings = check_columns(f"logs.events.{name}", files, wanted)
    columns = list(dict.fromkeys(wanted.values()))

    def lines_of(chosen: Sequence[LogFile]) -> DataFrame:
        return _parsed(_read(spark, chosen, log.file_format, columns), log, ids, columns)

    some = [file for file in files if file.day is None or near[0] <= file.day <= near[1]]
    lines = lines_of(files)
    return EventLines(lines, lines if len(some) == len(files) else lines_of(some), warnings)


def _parsed(
    raw: DataFrame, log: ImpressionLog | ClickLog | ConversionLog, ids: Mapping[str, str], columns: list[str]
) -> DataFrame:
    """Returns raw columns as canonical ones."""
    parsed = raw.select(
        *(_id(column).alias(key) for key, column in ids.items()),
        _time_us(raw, log.time, log.time_unit).alias("time_us"),
        *(_value(raw, column).alias(f"@{key}") for key, column in log.features.items()),
        _folder_day(log.day_folders).alias("folder_day"),
        F.struct(*(_quoted(column) for column in columns)).alias("raw"),
        F.col(_CORRUPT),
    )
    return _with_reason(parsed, _reason(list(ids), log.late_days))


def read_catalog(spark: SparkSession, number: int, catalog: Catalog) -> EventLines:
    """Returns the lines of a catalog: `<key>_id`, `valid_from_us`, `valid_to_us`, `@<name>`, `reason`.

    Args:
        spark: the session.
        number: its place in `logs.events.catalogs`, for messages.
        catalog: its config.
    """
    times = {key: getattr(catalog, key) for key in ("valid_from", "valid_to") if getattr(catalog, key)}
    features = {f"features.{key}": value for key, value in catalog.features.items()}
    wanted = {"key_column": catalog.key_column, **times, **features}
    files = read_columns(list_log_files(catalog.path, None, date.min, date.max), catalog.file_format)
    warnings = check_columns(f"logs.events.catalogs.{number}", files, wanted)
    columns = list(dict.fromkeys(wanted.values()))
    raw = _read(spark, files, catalog.file_format, columns)
    key_id = f"{catalog.key}_id"
    parsed = raw.select(
        _id(catalog.key_column).alias(key_id),
        *(
            (
                _time_us(raw, times[key], catalog.time_unit) if key in times else F.lit(None).cast("bigint")
            ).alias(f"{key}_us")
            for key in ("valid_from", "valid_to")
        ),
        *(_value(raw, column).alias(f"@{key}") for key, column in catalog.features.items()),
        F.struct(*(_quoted(column) for column in columns)).alias("raw"),
        F.col(_CORRUPT),
    )
    begins, ends = F.col("valid_from_us"), F.col("valid_to_us")
    unparsable = F.lit(False)
    if "valid_from" in times:
        unparsable = begins.isNull()
    if "valid_to" in times:
        unparsable |= ends.isNull() & F.col("raw").getField(times["valid_to"]).isNotNull()
    reason = (
        F.when(F.col(_CORRUPT).isNotNull(), MALFORMED_LINE)
        .when(F.col(key_id).isNull(), MISSING_ID)
        .when(unparsable, UNPARSABLE_TIME)
        .when(ends <= begins, NEVER_VALID)
    )
    lines = _with_reason(parsed, reason)
    return EventLines(lines, lines, warnings)


def _read(spark: SparkSession, files: Sequence[LogFile], file_format: str, columns: list[str]) -> DataFrame:
    """Returns the raw columns of all files, and `__corrupt`: the line where it could not be parsed."""
    if file_format == "parquet":
        frame = _read_parquet(spark, files, columns)
    elif file_format == "json":
        schema = StructType([StructField(column, _json_type(files, column)) for column in columns])
        frame = _read_text(spark, [file.path for file in files], "json", schema)
    else:
        # By position in the file, so files with other headers are read for themselves.
        parts = []
        ordered = sorted(files, key=lambda file: list(file.columns))
        for header, group in groupby(ordered, key=lambda file: list(file.columns)):
            schema = StructType([StructField(column, StringType()) for column in header])
            parts.append(_read_text(spark, [file.path for file in group], "csv", schema))
        kept = [part.select(*map(_quoted, columns), _CORRUPT, "_metadata") for part in parts]
        frame = (
            reduce(DataFrame.unionByName, kept) if kept else _read_text(spark, [], "csv", _strings(columns))
        )
    return frame.select(*map(_quoted, columns), _CORRUPT, F.col("_metadata.file_path").alias("__path"))


def _read_parquet(spark: SparkSession, files: Sequence[LogFile], columns: list[str]) -> DataFrame:
    if not files:
        return _read_text(spark, [], "csv", _strings(columns))
    arrow = read_parquet_schema(files[0].path)
    schema = from_arrow_schema(arrow)
    wanted = StructType([schema[column] for column in columns])
    frame = spark.read.schema(wanted).parquet(*(storage.spark_path(file.path) for file in files))
    return frame.withColumn(_CORRUPT, F.lit(None).cast("string")).select("*", "_metadata")


def _read_text(spark: SparkSession, paths: list[str], file_format: str, schema: StructType) -> DataFrame:
    if not paths:
        metadata = F.struct(F.lit(None).cast("string").alias("file_path")).alias("_metadata")
        return spark.createDataFrame([], StructType([*schema, _corrupt_field()])).withColumn(
            "_metadata", metadata
        )
    reader = spark.read.schema(StructType([*schema, _corrupt_field()])).option("mode", "PERMISSIVE")
    reader = reader.option("columnNameOfCorruptRecord", _CORRUPT)
    if file_format == "csv":
        # RFC 4180: a quote inside quotes is written twice.
        reader = reader.option("header", True).option("escape", '"')
    frame = reader.format(file_format).load([storage.spark_path(path) for path in paths])
    return frame.select("*", "_metadata")


def _corrupt_field() -> StructField:
    return StructField(_CORRUPT, StringType())


def _strings(columns: Sequence[str]) -> StructType:
    return StructType([StructField(column, StringType()) for column in columns])


def _json_type(files: Sequence[LogFile], column: str) -> DataType:
    """Returns what to read a JSON column as: text where it is no list or object, numbers as they stand."""
    kind = files[0].columns[column] if files else "string"
    types: Mapping[str, DataType] = {
        "array": ArrayType(StringType()),
        "object": MapType(StringType(), DoubleType()),
    }
    return types.get(kind, StringType())


def _quoted(column: str) -> Column:
    return F.col(f"`{column}`")


def _id(column: str) -> Column:
    text = _quoted(column).cast("string")
    return F.when(text != "", text)


def _time_us(raw: DataFrame, column: str, unit: str) -> Column:
    if raw.schema[column].dataType.typeName() in ("timestamp", "timestamp_ntz", "date"):
        return F.unix_micros(_quoted(column).cast("timestamp"))
    if unit == "iso":
        return F.unix_micros(F.try_to_timestamp(_quoted(column).cast("string")))
    # Through decimal: a double of seconds has no exact microseconds beyond 2^53.
    number = _quoted(column).try_cast("decimal(30, 6)") * F.lit(_MICROSECONDS[unit])
    return number.try_cast("bigint")


def _value(raw: DataFrame, column: str) -> Column:
    """Returns an attribute in one of its three types; empty text, lists and maps become null."""
    kind = raw.schema[column].dataType
    if isinstance(kind, ArrayType):
        values = F.filter(_quoted(column).cast("array<string>"), lambda value: value != "")
        return F.when(F.size(values) > 0, values)
    if isinstance(kind, MapType):
        weights = _quoted(column).cast("map<string, double>")
        return F.when(F.size(weights) > 0, weights)
    return _id(column)


def _folder_day(day_folders: str | None) -> Column:
    if day_folders is None:
        return F.lit(None).cast("date")
    # Plain text functions: a pattern would be looked for in every line.
    behind = F.substring_index("__path", f"/{day_folders}=", -1)
    return F.substring(behind, 1, len("2026-11-23")).try_cast("date")


def _with_reason(parsed: DataFrame, reason: Column) -> DataFrame:
    """Returns `parsed` with `reason` and, only where there is one, `line`; without what they are made of."""
    line = F.when(F.col("reason").isNotNull(), F.coalesce(_CORRUPT, F.to_json("raw")))
    return parsed.withColumn("reason", reason).withColumn("line", line).drop(_CORRUPT, "raw")


def _reason(ids: Sequence[str], late_days: int) -> Column:
    missing = reduce(Column.__or__, (F.col(key).isNull() for key in ids))
    bad = F.concat_ws("", *ids).rlike(_BAD_ID_PATTERN)
    time_us = F.col("time_us")
    # In whole days since 1970: a time's date by the calendar takes ten times as long.
    days_late = F.unix_date("folder_day") - F.floor(time_us / _DAY_US).cast("int")
    is_elsewhere = ~days_late.between(-1, late_days)
    return (
        F.when(F.col(_CORRUPT).isNotNull(), MALFORMED_LINE)
        .when(missing, MISSING_ID)
        .when(bad, BAD_ID)
        .when(time_us.isNull(), UNPARSABLE_TIME)
        .when((time_us < 0) | (time_us >= _END_US), TIME_OUT_OF_RANGE)
        .when(is_elsewhere, WRONG_FOLDER)
    )
