"""A day of event logs, and the time as of which its events are known."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from pyspark.sql import Column

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.schemas.layout import DAY_PREFIX
from esmm_spark.contracts.tables.log_files import UTC_ZONE
from esmm_spark.reading.files import parse_date
from esmm_spark.reading.local_days import microseconds_since_epoch, start_of_day_us

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


@dataclass(frozen=True)
class Day:
    """A day.

    Attributes:
        date: in its zone.
        as_of: nothing after it is known; None: all that is in the logs.
        zone: the days' time zone.
    """

    date: date
    as_of: datetime | None = None
    zone: str = UTC_ZONE

    @property
    def name(self) -> str:
        """The partition: `ds=2026-11-23`."""
        return f"{DAY_PREFIX}{self.date.isoformat()}"

    @property
    def start_us(self) -> int:
        """Its first microsecond."""
        return start_of_day_us(self.date, self.zone)

    @property
    def end_us(self) -> int:
        """The first microsecond after it."""
        return start_of_day_us(self.date + timedelta(days=1), self.zone)

    @property
    def as_of_us(self) -> int | None:
        """`as_of` in microseconds since 1970."""
        return None if self.as_of is None else microseconds_since_epoch(self.as_of)

    def holds(self, time_us: Column) -> Column:
        """Returns whether a time is on the day."""
        return (time_us >= self.start_us) & (time_us < self.end_us)

    def on(self, name: str) -> "Day":
        """Returns the day of the partition `ds=...`, looked at as of the same time."""
        return replace(self, date=date.fromisoformat(name.removeprefix(DAY_PREFIX)))


def parse_day(ds: str, as_of: str | None, zone: str = UTC_ZONE, option: str = "--ds") -> Day:
    """Returns the day that `--ds`, or another option, and `--as-of` name, both in the zone.

    Raises:
        ConfigError: one of them is no date or time, or the day begins after `--as-of`.
    """
    try:
        day = parse_date(ds)
    except ValueError as error:
        raise ConfigError(f"{option} {ds} is no day: write it like 2026-11-23") from error
    if as_of is None:
        return Day(day, None, zone)
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError as error:
        raise ConfigError(f"--as-of {as_of} is no time: write it like 2026-11-24T06:00:00") from error
    ours = UTC if zone == UTC_ZONE else ZoneInfo(zone)
    moment = moment.replace(tzinfo=ours) if moment.tzinfo is None else moment.astimezone(ours)
    parsed = Day(day, moment, zone)
    if microseconds_since_epoch(moment) < parsed.start_us:
        raise ConfigError(f"--as-of {as_of} is before the day {option} {ds}: nothing of it is known then")
    return parsed
