"""The files of an event log or a catalog, by their names alone: which there are, and which a day reads."""

from datetime import date, timedelta

from esmm_spark import storage
from esmm_spark.errors import InputError
from esmm_spark.locations import literal_hint


def list_log_files(
    path: str, day_folders: str | None, first: date, last: date
) -> list[tuple[str, date | None]]:
    """Returns (path, day of its folder) of the files of a log, sorted; only those of `first` to `last`.

    Raises:
        InputError: there is no file at all, or none lies in a day folder where there should be some.
    """
    if not storage.exists(path):
        raise InputError(f"no file or folder at {path}{literal_hint(path)}")
    filesystem, inner = storage.filesystem_of(path)
    if filesystem.get_file_info(inner).is_file:
        return [(path, None)]
    below = [name for name, _ in storage.list_files(path)]
    names = [name for name in below if not any(part.startswith((".", "_")) for part in name.split("/"))]
    files = [storage.join(path, name) for name in names]
    if not files:
        raise InputError(f"no files in {path}")
    if day_folders is None:
        return [(file, None) for file in files]
    dated = [(file, _day_of(file, day_folders)) for file in files]
    if all(day is None for _, day in dated):
        raise InputError(
            f"no folder {day_folders}=YYYY-MM-DD in {path}: its files are like {files[0]}; without such "
            "folders leave day_folders out"
        )
    return [(file, day) for file, day in dated if day is not None and first <= day <= last]


def days_around(first_us: int, last_us: int, late_days: int) -> tuple[date, date]:
    """Returns the first and last day whose folders may hold events of [first_us, last_us], microseconds."""
    return day_of_time(first_us) - timedelta(days=1), day_of_time(last_us) + timedelta(days=late_days)


def day_of_time(time_us: int) -> date:
    """Returns the UTC day of a time in microseconds since 1970."""
    return date(1970, 1, 1) + timedelta(microseconds=time_us)


def _day_of(path: str, day_folders: str) -> date | None:
    for part in reversed(path.split("/")[:-1]):
        key, separator, value = part.partition("=")
        if separator and key == day_folders:
            try:
                return date.fromisoformat(value)
            except ValueError as error:
                raise InputError(
                    f"{path}: {part} is no day, it must be like {day_folders}=2026-11-23"
                ) from error
    return None
