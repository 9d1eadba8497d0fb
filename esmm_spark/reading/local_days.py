"""Days of a time zone: where each begins, which one a time is of. Some have 23 or 25 hours."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pyspark.sql import Column
from pyspark.sql import functions as F

from esmm_spark.contracts.tables.log_files import UTC_ZONE

_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds_since_epoch(moment: datetime) -> int:
    """Returns a time with a zone in microseconds since 1970, UTC."""
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def start_of_day_us(day: date, zone: str = UTC_ZONE) -> int:
    """Returns the first microsecond of a day.

    Example:
        2026-03-08 in America/New_York begins at 05:00 UTC, the day after at 04:00: it has 23 hours.
    """
    return microseconds_since_epoch(datetime.combine(day, time(), ZoneInfo(zone)))


def day_of_time(time_us: int, zone: str = UTC_ZONE) -> date:
    """Returns the day of a time in microseconds since 1970."""
    return (_EPOCH + timedelta(microseconds=time_us)).astimezone(ZoneInfo(zone)).date()


def day_number(time_us: Column, zone: str = UTC_ZONE) -> Column:
    """Returns the number of a time's day, counted from 1970-01-01."""
    if zone == UTC_ZONE:
        # A date by the calendar takes ten times as long.
        return F.floor(time_us / _DAY_US).cast("int")
    return F.unix_date(F.from_utc_timestamp(F.timestamp_micros(time_us), zone).cast("date"))
