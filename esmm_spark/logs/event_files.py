"""The files of an event log or a catalog, their columns, and whether all of them agree.

Looks at names, footers and first lines only, on the driver: no data passes through here.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa
from pyarrow import parquet

from esmm_spark import storage
from esmm_spark.errors import ConfigError, InputError

_HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class LogFile:
    """One file of a log.

    Attributes:
        path: as Spark takes it.
        day: the day of its folder; None where the log has no day folders.
        columns: column -> type as people write it, `string` for all of CSV's, in the file's order.
    """

    path: str
    day: date | None
    columns: Mapping[str, str]


def list_log_files(
    path: str, day_folders: str | None, first: date, last: date
) -> list[tuple[str, date | None]]:
    """Returns (path, day of its folder) of the files of a log, sorted; only those of `first` to `last`.

    Raises:
        InputError: there is no file at all, or none lies in a day folder where there should be some.
    """
    if not storage.exists(path):
        raise InputError(f"no file or folder at {path}")
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


def read_columns(files: Sequence[tuple[str, date | None]], file_format: str) -> list[LogFile]:
    """Returns the files with their columns. Raises InputError where a file can't be read, naming it."""
    return [LogFile(path, day, _columns_of(path, file_format)) for path, day in files]


def check_columns(name: str, files: Sequence[LogFile], wanted: Mapping[str, str]) -> list[str]:
    """Returns a warning for each column that is new since the first file.

    Args:
        name: the log, as the config names it: `logs.events.clicks`.
        files: in order; the first one is what the others are held against.
        wanted: config key -> column that the config maps.

    Raises:
        ConfigError: the config maps a column that the first file doesn't have.
        InputError: a mapped column is missing from a later file, or has another type there.
    """
    if not files:
        return []
    first = files[0]
    for key, column in wanted.items():
        if column not in first.columns:
            raise ConfigError(
                f"{name}.{key} = {column!r} is no column of {first.path}: it has {', '.join(first.columns)}"
            )
    warnings: dict[str, str] = {}
    for file in files[1:]:
        for column in wanted.values():
            expected, found = first.columns[column], file.columns.get(column)
            if found != expected:
                what = "is missing" if found is None else f"is {found}"
                raise InputError(
                    f"{file.path}: column {column} {what}, in {first.path} it is {expected}: write the file "
                    "again with that type, or move it out of the log"
                )
        for column in file.columns:
            if column not in first.columns:
                warnings.setdefault(column, f"{name}: column {column} is new in {file.path}, it is ignored")
    return list(warnings.values())


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


def _columns_of(path: str, file_format: str) -> dict[str, str]:
    if file_format == "parquet":
        schema = read_parquet_schema(path)
        return {field.name: str(_plain(field.type)) for field in schema}
    text = _head(path)
    if file_format == "csv":
        header = next(csv.reader(io.StringIO(text)), [])
        if not header:
            raise InputError(f"{path} is empty: a CSV file must begin with the names of its columns")
        return dict.fromkeys(header, "string")
    return _json_columns(path, text)


def read_parquet_schema(path: str) -> pa.Schema:
    """Returns the schema in a Parquet file's footer. Raises InputError where there is none to read."""
    filesystem, inner = storage.filesystem_of(path)
    try:
        return parquet.read_schema(inner, filesystem=filesystem)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is no whole Parquet file: {' '.join(str(error).split())[:200]}") from error


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _head(path: str) -> str:
    """Returns the first lines of a file, whole ones; .gz and the like are opened by their suffix."""
    filesystem, inner = storage.filesystem_of(path)
    try:
        with filesystem.open_input_stream(inner) as stream:
            content = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error}") from error
    text = str(content.decode("utf-8-sig", errors="replace"))
    whole, newline, _ = text.rpartition("\n")
    return whole if newline and len(content) == _HEAD_BYTES else text


def _json_columns(path: str, text: str) -> dict[str, str]:
    """Returns the columns of the first lines with the JSON type that each has where it isn't null."""
    columns: dict[str, str] = {}
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # rejected as `malformed_line` when the data is read
        if isinstance(record, dict):
            for column, value in record.items():
                if columns.get(column, "null") == "null":
                    columns[column] = _json_type(value)
    if not columns:
        raise InputError(f"{path} has no JSON object in its first lines")
    return columns


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((int | float, "number"), (str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    raise AssertionError(value)
