"""Checks that a day's logs have lost no events, e.g. by retention, since the day was built.

A day remembers how many events of each day it knew, of each log, in all of the range that matters. Logs
are whole while they hold at least as many: files may be renamed, merged or written in another format, and
late events may come, but what retention took away shows. Unlike sizes and names of files this serves logs
without day folders, too, and costs one count of lines that are cached anyway.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import MissingLogError
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.contracts.manifest import DayCounts
from esmm_spark.events.join.sources import DayLogs, event_ranges
from esmm_spark.events.reading.day import Day
from esmm_spark.reading.local_days import day_number

EventsPerDay = Mapping[str, Mapping[str, int]]

_EPOCH = date(1970, 1, 1)


def count_events_per_day(logs: DayLogs, funnel: Funnel, day: Day) -> dict[str, dict[str, int]]:
    """Returns log -> day, `2026-11-23` -> accepted events of it that matter to the day `day`."""
    frames = [
        logs.lines[name].select(F.lit(name).alias("log"), mattering_day(name, funnel, day).alias("day"))
        for name in funnel.logs
    ]
    counts = reduce(DataFrame.unionByName, frames).groupBy("log", "day").count()
    lines = [(found.log, found.day, found["count"]) for found in counts.collect()]
    return by_utc_day(lines, funnel.logs)


def mattering_day(name: str, funnel: Funnel, day: Day) -> Column:
    """Returns the number of the day of a line, null where it is rejected or doesn't matter to `day`.

    Args:
        name: the log.
        funnel: the logs' config.
        day: the day.
    """
    first, last = event_ranges(funnel, day)[name]
    matters = F.col("reason").isNull() & F.col("time_us").between(first, last)
    return F.when(matters, day_number(F.col("time_us"), day.zone))


def by_utc_day(
    counts: Iterable[tuple[str, int | None, int]], logs: Iterable[str]
) -> dict[str, dict[str, int]]:
    """Returns log -> day -> events, of (log, number of a day or null, lines), for each of `logs`."""
    sums = Counter[tuple[str, int]]()
    for name, number, lines in counts:
        if number is not None:
            sums[name, number] += lines
    found: dict[str, dict[str, int]] = {name: {} for name in logs}
    for (name, number), lines in sorted(sums.items()):
        found[name][(_EPOCH + timedelta(days=number)).isoformat()] = lines
    return found


def require_whole(
    built: DayCounts,
    found: EventsPerDay,
    day: Day,
    allowed_missing: frozenset[str],
    arriving: frozenset[str] = frozenset(),
) -> None:
    """Raises MissingLogError if the logs hold less than what a day was built from.

    Args:
        built: what the dataset says of the day.
        found: what `count_events_per_day` counts now.
        day: the day, as of now.
        allowed_missing: logs that may hold less.
        arriving: logs whose lines may come after their day.
    """
    lost = [
        (then - found.get(name, {}).get(each, 0), name, each, then)
        for name, counts in built.events_per_day.items()
        if name not in allowed_missing
        for each, then in counts.items()
        if _is_known(each, built, day, name in arriving) and found.get(name, {}).get(each, 0) < then
    ]
    if lost:
        # The greatest loss tells best what happened.
        number, name, each, then = max(lost)
        raise MissingLogError(
            f"{day.name} was built from {then} {name} of {each}, of which the logs now hold {then - number}"
            f"{_others(len(lost) - 1)}: it is left as it is; bring the logs back, or say that it is right "
            f"with --ds {day.date} --allow-missing {name}"
        )


def _is_known(each: str, built: DayCounts, day: Day, is_arriving: bool) -> bool:
    """Returns whether all that the day was built from of a day is known as of now."""
    if day.as_of is None:
        return True
    if built.as_of is not None and datetime.fromisoformat(built.as_of) <= day.as_of:
        return True
    return not is_arriving and date.fromisoformat(each) < day.as_of.date()


def _others(number: int) -> str:
    return f" (and less of {number} more)" if number else ""
