"""Lists the files of an event log or a catalog, and selects those that a day needs."""

import re
from collections.abc import Sequence
from datetime import date, timedelta

import pyarrow as pa
from pyarrow import parquet

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.locations import literal_hint
from esmm_spark.contracts.tables.log_files import UTC_ZONE
from esmm_spark.files import filesystems, storage
from esmm_spark.reading.local_days import day_of_time

_DAY = re.compile(r"\d{4}-\d\d-\d\d|\d{8}", re.ASCII)


def list_log_files(path: str, day_folders: str | None) -> list[tuple[str, date | None]]:
    """Returns (path, day of its folder) of a log's files, sorted; without those that hold nothing.

    Raises:
        InputError: nothing stands there, a file lies in no day's folder where it should, or two folders of
            one day are written differently.
    """
    if not storage.exists(path):
        raise InputError(f"no file or folder at {path}{literal_hint(path)}")
    filesystem, inner = filesystems.filesystem_of(path)
    if filesystem.get_file_info(inner).is_file:
        size = filesystem.get_file_info(inner).size
        files = [path] if size else []
    else:
        files = [
            storage.join(path, name)
            for name, size in storage.list_files(path)
            if size and not any(part.startswith((".", "_")) for part in name.split("/"))
        ]
    if day_folders is None:
        return [(file, None) for file in files]
    folders = [_day_folder(file, day_folders) for file in files]
    _require_one_spelling(files, folders)
    return [(file, day) for file, (_, day) in zip(files, folders, strict=True)]


def files_between(
    files: Sequence[tuple[str, date | None]], first: date, last: date
) -> list[tuple[str, date | None]]:
    """Returns the files in folders of the days `first` to `last`, and those in no day's folder."""
    return [(path, day) for path, day in files if day is None or first <= day <= last]


def holds_lines(path: str, file_format: str) -> bool:
    """Returns whether a file holds a line, as far as its footer tells; broken ones are told of elsewhere."""
    if file_format != "parquet":
        return True
    filesystem, inner = filesystems.filesystem_of(path)
    try:
        return bool(parquet.read_metadata(inner, filesystem=filesystem).num_rows > 0)
    except (OSError, pa.ArrowInvalid):
        return True


def parse_date(text: str) -> date:
    """Returns the day that a text like 2026-11-23 or 20261123 names. Raises ValueError if it is no other."""
    if not _DAY.fullmatch(text):
        raise ValueError(f"{text!r} is no day: write it like 2026-11-23 or 20261123")
    return date.fromisoformat(text)


def days_around(first_us: int, last_us: int, late_days: int, zone: str = UTC_ZONE) -> tuple[date, date]:
    """Returns the first and last day whose folders may hold events of [first_us, last_us], microseconds."""
    first, last = day_of_time(first_us, zone), day_of_time(last_us, zone)
    return first - timedelta(days=1), last + timedelta(days=late_days)


def _day_folder(path: str, day_folders: str) -> tuple[str, date]:
    """Returns the name and the day of the innermost day folder that a file lies in."""
    for part in reversed(path.split("/")[:-1]):
        key, separator, value = part.partition("=")
        if separator and key == day_folders:
            try:
                return part, parse_date(value)
            except ValueError as error:
                raise InputError(
                    f"{path}: {part} is no day, it must be like {day_folders}=2026-11-23 or "
                    f"{day_folders}=20261123"
                ) from error
    raise InputError(
        f"{path} lies in no folder like {day_folders}=2026-11-23 or {day_folders}=20261123: move it out of "
        "the log; if the log has other day folders name them in day_folders, if none leave day_folders out"
    )


def _require_one_spelling(files: Sequence[str], folders: Sequence[tuple[str, date]]) -> None:
    seen: dict[date, tuple[str, str]] = {}
    for file, (name, day) in zip(files, folders, strict=True):
        other_name, other_file = seen.setdefault(day, (name, file))
        if name != other_name:
            raise InputError(
                f"{file} and {other_file} lie in two folders of one day, {name} and {other_name}: its events "
                "would count twice, so keep one of them"
            )
