"""Checks a day's counts of lines before it is built: not too many rejects, and lines of that day.

A log none of whose lines is of the day, or, where it has no day folders, hardly any, is most likely read with
a wrong unit or a wrong column of times; at best its day is missing.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import MissingLogError, TooManyRejectsError
from esmm_spark.contracts.event_config import EventLog
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.events.join.needed_folders import IsExcused
from esmm_spark.events.reading.day import DAY_US, Day
from esmm_spark.events.reading.deduplication import DUPLICATE
from esmm_spark.reading.reasons import TIME_OUT_OF_RANGE
from esmm_spark.reading.times import MICROSECONDS
from esmm_spark.samples.dataset import check_rejects

# Of so many lines of a log that has no day folders one must be of the day. A log of ten years has 3,650 days.
_LINES_PER_LINE_OF_THE_DAY = 10_000
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
# What another unit makes of a time must be so near to the day to be named.
_NEAR_US = 366 * DAY_US
_NOTHING_REPLACED = "nothing was replaced"


def check_lines(
    sources: Sequence[SourceCounts],
    raw: Mapping[str, DataFrame],
    configs: Mapping[str, EventLog],
    day: Day,
    max_reject_fraction: float,
    is_excused: IsExcused,
) -> None:
    """Raises unless a day can be built of what was read.

    Args:
        sources: what became of the lines of the logs, in the order of `configs`, then of the catalogs.
        raw: log -> its lines with `time_us` and `reason`; read again only to explain an error.
        configs: log -> its config.
        day: the day.
        max_reject_fraction: see `check_rejects`.
        is_excused: whether a log may lack the day.

    Raises:
        TooManyRejectsError: see `check_rejects`.
        MissingLogError: no line of a log is of the day, hardly one of a log without day folders, or a catalog
            is empty.
    """
    for name, source in zip(configs, sources, strict=False):
        try:
            check_rejects(source, max_reject_fraction)
        except TooManyRejectsError as error:
            is_suspect = F.col("reason") == TIME_OUT_OF_RANGE
            raise TooManyRejectsError(
                f"{error}{_hint(name, configs[name], raw[name], is_suspect, day)}"
            ) from error
        if not is_excused(name, day.date):
            _require_lines(name, source, raw[name], configs[name], day)
    for source in sources[len(configs) :]:
        check_rejects(source, max_reject_fraction)
        if source.lines_read == 0:
            raise MissingLogError(
                f"{source.path} holds no lines, and no impression would find an attribute there: write the "
                f"catalog, or take it out of logs.events.catalogs; {_NOTHING_REPLACED}"
            )


def lines_of_day(source: SourceCounts) -> int:
    """Returns how many lines of a log are events of the day, known by `--as-of` or not, repeated or not."""
    repeated = sum(count for reason, count in source.rejects.items() if reason.startswith(f"{DUPLICATE}_"))
    return source.lines_accepted + repeated + source.notes.get("after_as_of", 0)


def _require_lines(name: str, source: SourceCounts, raw: DataFrame, log: EventLog, day: Day) -> None:
    ours, others = lines_of_day(source), source.notes.get("other_days", 0)
    is_hardly_any = log.day_folders is None and ours * _LINES_PER_LINE_OF_THE_DAY < others
    if ours > 0 and not is_hardly_any:
        return
    share = f"{ours or 'none'} of the {source.lines_read} lines read"
    hint = _hint(name, log, raw, ~day.holds(F.col("time_us")), day) if others else ""
    raise MissingLogError(
        f"{source.path} has hardly anything of {day.name}, {share}: wait for the log or mend it, or say that "
        f"it is right with --allow-missing {name}; {_NOTHING_REPLACED}{hint}"
    )


def _hint(name: str, log: EventLog, raw: DataFrame, is_suspect: Column, day: Day) -> str:
    """Returns which unit would bring the times to the day, or, if none does, where they lie."""
    suspect = raw.where(is_suspect & F.col("time_us").isNotNull())
    middle_us = suspect.agg(F.percentile_approx("time_us", 0.5)).collect()[0][0]
    if middle_us is None:
        return ""
    named = f"logs.events.{name}.time_unit"
    unit = likely_unit(middle_us, log.time_unit, day)
    if unit is None:
        where = _as_text(middle_us)
        return (
            f"; times are read as {where} and the like: is {log.time} the right column, and {named} its unit?"
        )
    return (
        f"; {log.time} seems to be in {_UNITS[unit]}, not in {_UNITS[log.time_unit]}: {named} = {unit} makes "
        f"{_as_text(middle_us * MICROSECONDS[unit] // MICROSECONDS[log.time_unit])} of "
        f"{_as_text(middle_us)}"
    )


def likely_unit(time_us: int, unit: str, day: Day) -> str | None:
    """Returns the unit that brings a time near to the day, if it isn't its own.

    Args:
        time_us: microseconds since 1970, as read with `unit`.
        unit: of TimeUnit; times of `iso` have no other.
        day: the day.

    Example:
        1795435200 seconds taken for milliseconds are 1970-01-21, and `s` makes 2026-11-23 of them.
    """
    if unit not in _UNITS:
        return None
    for other in _UNITS:
        then_us = time_us * MICROSECONDS[other] // MICROSECONDS[unit]
        if other != unit and day.start_us - _NEAR_US <= then_us < day.end_us + _NEAR_US:
            return other
    return None


def _as_text(time_us: int) -> str:
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).strftime(
            "%Y-%m-%d %H:%M:%S"
        )
    except OverflowError:
        return f"{time_us} microseconds since 1970"
