"""Which day folders of the event logs must be there to build a day.

The day's own, of each log. Of the days around it those that its windows and histories reach, as far as they
are of the log's life: not before the log's oldest folder; and, where nobody says as of when the logs are
looked at, not after its newest one. With `--as-of`, each day that is over by then, up to the newest folder of
any log: that one log ends before another one does is no proof that nothing happened. A folder without files,
or with empty ones, is as good as none.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, timedelta

from esmm_spark.contracts.errors import InputError, MissingLogError
from esmm_spark.contracts.event_config import EventLog
from esmm_spark.contracts.manifest import DayCounts
from esmm_spark.contracts.schemas.layout import DAY_PREFIX, EXAMPLES
from esmm_spark.events.reading.day import Day
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_day
from esmm_spark.reading.files import holds_lines
from esmm_spark.reading.local_days import day_of_time

# (log, day) -> whether it is right that the log has no folder of the day.
IsExcused = Callable[[str, date], bool]

Files = Sequence[tuple[str, date | None]]
_ONE_DAY = timedelta(days=1)
_SHOWN = 3


def never_excused(_log: str, _day: date) -> bool:
    """Says that every folder must be there."""
    return False


def excuses(dataset: str, allowed: Collection[str], own: date | None) -> IsExcused:
    """Returns what may be missing: logs that the run allows, and days that were built without that log.

    Args:
        dataset: URI of the dataset.
        allowed: what the run says of all days.
        own: a day of which only `allowed` counts, not what it was built without before.
    """

    def is_excused(log: str, each: date) -> bool:
        if log in allowed:
            return True
        built = None if each == own else built_day(dataset, f"{DAY_PREFIX}{each}")
        return built is not None and log in built.allowed_missing

    return is_excused


def built_day(dataset: str, name: str) -> DayCounts | None:
    """Returns what the dataset says of a day; None where it has no such day or can't say."""
    if not storage.is_complete(storage.join(dataset, EXAMPLES, name)):
        return None
    try:
        return read_day(dataset, name).day
    except InputError:
        # Damaged, or of another version: it is to be built again.
        return None


def require_folders(
    configs: Mapping[str, EventLog],
    files: Mapping[str, Files],
    ranges: Mapping[str, tuple[int, int]],
    day: Day,
    is_excused: IsExcused,
) -> None:
    """Raises MissingLogError if a log lacks a folder that the day needs, or has no file at all.

    Args:
        configs: log -> its config.
        files: log -> all its files that aren't empty, with the days of their folders.
        ranges: log -> [first, last] event time, microseconds, that is needed of it.
        day: the day.
        is_excused: see above.
    """
    newest = max((found for log in files.values() for _, found in log if found), default=day.date)
    for name, log in configs.items():
        if not log.day_folders:
            if not files[name] and not is_excused(name, day.date):
                raise MissingLogError(f"no files in {log.path}, or only empty ones{_remedy(name)}")
            continue
        by_day: dict[date, list[str]] = {}
        for path, found in files[name]:
            if found is not None:
                by_day.setdefault(found, []).append(path)
        wanted = needed_days(by_day, ranges[name], day, newest)
        missing = [
            each
            for each in wanted
            if not any(holds_lines(path, log.file_format) for path in by_day.get(each, ()))
            and not is_excused(name, each)
        ]
        if missing:
            raise MissingLogError(_text(name, log, day, missing))


def needed_days(present: Collection[date], range_us: tuple[int, int], day: Day, newest: date) -> list[date]:
    """Returns the days whose folders one log must have, in order.

    Args:
        present: the days of the folders that it has.
        range_us: [first, last] event time that is needed of it, microseconds.
        day: the day that is built.
        newest: the newest folder of any log.
    """
    first, last = (day_of_time(time_us, day.zone) for time_us in range_us)
    if not present:
        return [day.date]
    end = (
        max(present) if day.as_of_us is None else min(newest, day_of_time(day.as_of_us, day.zone) - _ONE_DAY)
    )
    first, last = max(first, min(present)), min(last, end)
    around = [first + number * _ONE_DAY for number in range((last - first).days + 1)]
    return sorted({day.date, *around})


def _text(name: str, log: EventLog, day: Day, missing: Sequence[date]) -> str:
    shown = ", ".join(f"{log.day_folders}={each}" for each in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"{day.name} needs {shown}{more} of {log.path}: no such folder, or nothing in it{_remedy(name)}"


def _remedy(name: str) -> str:
    return (
        f": wait for the log or write it, or say that it is right with --allow-missing {name}; nothing was "
        "replaced"
    )
