"""Times of log lines in microseconds since 1970, UTC, and the days of the folders that files lie in."""

from datetime import date

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.tables.log_files import UTC_ZONE, MappedFiles
from esmm_spark.reading.local_days import start_of_day_us
from esmm_spark.reading.raw_columns import PATH
from esmm_spark.reading.values import quoted
from esmm_spark.spark.session import first_line

MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
END_US = 4_102_444_800_000_000  # 2100-01-01


def microseconds_of(raw: DataFrame, column: str, log: MappedFiles) -> Column:
    """Returns a column's time in microseconds since 1970, null where it is no time of the log's.

    Args:
        raw: raw columns.
        column: a timestamp or date, whatever the log's `time_unit` says; else a number or text.
        log: says of which unit, format and zone times are.
    """
    value, kind = F.col(quoted(column)), raw.schema[column].dataType.typeName()
    if kind == "timestamp":
        return F.unix_micros(value)
    if kind in ("timestamp_ntz", "date"):
        return _in_zone(value.cast("timestamp"), log.time_zone)
    if log.time_format is not None:
        moment = F.try_to_timestamp(F.trim(value.cast("string")), F.lit(log.time_format))
        return F.unix_micros(moment) if _has_offset(log.time_format) else _in_zone(moment, log.time_zone)
    if log.time_unit == "iso":
        text = F.trim(value.cast("string"))
        # Else Spark takes a time of day for today's, and a year or a month for their first moment.
        has_day = (F.substring(text, 5, 1) == "-") & (F.instr(F.substring(text, 7, 2), "-") > 0)
        moment = F.when(has_day, F.try_to_timestamp(text))
        if log.time_zone == UTC_ZONE:
            return F.unix_micros(moment)
        # Behind a day: Z, +08:00, a name.
        has_offset = F.substring(text, 12, 40).rlike("[A-Za-z+-]")
        return F.when(has_offset, F.unix_micros(moment)).otherwise(_in_zone(moment, log.time_zone))
    # Through decimal: a double of seconds has no exact microseconds beyond 2^53.
    number = value.try_cast("decimal(30, 6)") * F.lit(MICROSECONDS[log.time_unit])
    return number.try_cast("bigint")


def is_without_time(raw: DataFrame, column: str) -> Column:
    """Returns whether nothing stands where a time should: null, empty text, or not a number."""
    value, kind = F.col(quoted(column)), raw.schema[column].dataType.typeName()
    is_nothing = F.isnull(value)
    if kind == "string":
        is_nothing |= F.trim(value) == ""
    elif kind in ("float", "double"):
        is_nothing |= F.isnan(value)
    return is_nothing


def check_time_format(spark: SparkSession, log: MappedFiles, key: str) -> None:
    """Raises ConfigError where `<key>.time_format` is no pattern of Spark's."""
    if log.time_format is None:
        return
    try:
        # Of a literal: no task runs.
        spark.range(1).select(F.try_to_timestamp(F.lit("2026"), F.lit(log.time_format))).collect()
    except PySparkException as error:
        raise ConfigError(
            f"{key}.time_format = {log.time_format!r} is no pattern of Spark's, like yyyy-MM-dd HH:mm:ss: "
            f"{first_line(error)}"
        ) from error


def _in_zone(moment: Column, zone: str) -> Column:
    """Returns the microseconds of a time that was read as UTC's and is a zone's.

    Of two times of one clock, where it goes back, the earlier one; of one that no clock shows, what clocks
    show that were not put forward.
    """
    return F.unix_micros(moment if zone == UTC_ZONE else F.to_utc_timestamp(moment, zone))


def _has_offset(pattern: str) -> bool:
    """Returns whether times of one of Spark's patterns have an offset: X, x, Z, z, V or O, unquoted."""
    unquoted = "".join(pattern.split("'")[::2])
    return any(letter in unquoted for letter in "XxZzVO")


def day_of_folder(day_folders: str | None) -> Column:
    """Returns the day of the folder `<day_folders>=...` that a line's file lies in; null of None."""
    if day_folders is None:
        return F.lit(None).cast("date")
    # Plain text functions: a pattern would be looked for in every line.
    folder = F.substring_index(F.substring_index(PATH, f"/{day_folders}=", -1), "/", 1)
    year, month, day = (F.substring(folder, *part) for part in ((1, 4), (5, 2), (7, 2)))
    is_compact = F.length(folder) == len("20261123")
    return F.when(is_compact, F.concat_ws("-", year, month, day)).otherwise(folder).try_cast("date")


def is_out_of_range(time_us: Column, earliest: date) -> Column:
    """Returns whether a time is before a day or after 2099: most likely it has another unit."""
    return (time_us < start_of_day_us(earliest)) | (time_us >= END_US)
