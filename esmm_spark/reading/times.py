"""Times of log lines in microseconds since 1970, UTC, and the days of the folders that files lie in."""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.reading.raw_columns import PATH
from esmm_spark.reading.values import quoted

MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
DAY_MICROSECONDS = 86_400_000_000
END_US = 4_102_444_800_000_000  # 2100-01-01


def microseconds_of(raw: DataFrame, column: str, unit: str) -> Column:
    """Returns a column's time in microseconds since 1970, null where it is no time of the unit.

    Args:
        raw: raw columns.
        column: a timestamp or date, whatever `unit` says; else a number or text.
        unit: `s`, `ms`, `us`, or `iso` for ISO 8601 text.
    """
    if raw.schema[column].dataType.typeName() in ("timestamp", "timestamp_ntz", "date"):
        return F.unix_micros(F.col(quoted(column)).cast("timestamp"))
    if unit == "iso":
        text = F.trim(F.col(quoted(column)).cast("string"))
        # Else Spark takes a time of day for today's, and a year or a month for their first moment.
        has_day = (F.substring(text, 5, 1) == "-") & (F.instr(F.substring(text, 7, 2), "-") > 0)
        return F.unix_micros(F.when(has_day, F.try_to_timestamp(text)))
    # Through decimal: a double of seconds has no exact microseconds beyond 2^53.
    number = F.col(quoted(column)).try_cast("decimal(30, 6)") * F.lit(MICROSECONDS[unit])
    return number.try_cast("bigint")


def day_of_folder(day_folders: str | None) -> Column:
    """Returns the day of the folder `<day_folders>=...` that a line's file lies in; null of None."""
    if day_folders is None:
        return F.lit(None).cast("date")
    # Plain text functions: a pattern would be looked for in every line.
    folder = F.substring_index(F.substring_index(PATH, f"/{day_folders}=", -1), "/", 1)
    year, month, day = (F.substring(folder, *part) for part in ((1, 4), (5, 2), (7, 2)))
    is_compact = F.length(folder) == len("20261123")
    return F.when(is_compact, F.concat_ws("-", year, month, day)).otherwise(folder).try_cast("date")


def start_of_day_us(day: date) -> int:
    """Returns the first microsecond of a UTC day."""
    return (day - date(1970, 1, 1)).days * DAY_MICROSECONDS


def is_out_of_range(time_us: Column, earliest: date) -> Column:
    """Returns whether a time is before a day or after 2099: most likely it has another unit."""
    return (time_us < start_of_day_us(earliest)) | (time_us >= END_US)
