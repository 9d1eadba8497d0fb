"""Column types of a log's files, held against each other and against the config.

Looks at footers and first lines only, on the driver: no data passes through here.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.files import filesystems
from esmm_spark.logs.heads import Head, read_head
from esmm_spark.reading.column_types import (
    ATTRIBUTES,
    IDS,
    LIST,
    NOTHING,
    OTHER,
    STRING,
    TIMES,
    UNKNOWN_TYPE,
    WEIGHTS,
    ColumnType,
    json_type,
    parquet_type,
)
from esmm_spark.reading.json_columns import no_object

_USES = {"id": IDS, "time": TIMES, "attribute": ATTRIBUTES}
_WANTED = {
    "id": "an id: write text or whole numbers",
    "time": "a time: write a timestamp, a number or text",
    "attribute": "an attribute: write a value, a list of values, or a map from values to weights",
}


@dataclass(frozen=True)
class LogFile:
    """One file of a log.

    Attributes:
        path: as Spark takes it.
        day: the day of its folder; None where the log has no day folders.
        columns: column -> type, in the file's order.
        header: the names of all columns in order, those that stand there twice too; empty of JSON.
        has_mark: whether it begins with a byte order mark.
        is_sparse: whether a line need not have every column (JSON).
    """

    path: str
    day: date | None
    columns: Mapping[str, ColumnType]
    header: tuple[str, ...] = ()
    has_mark: bool = False
    is_sparse: bool = False

    def type_of(self, column: str) -> ColumnType | None:
        """Returns the type of a column, None where it is missing and should not be."""
        return self.columns.get(column, UNKNOWN_TYPE if self.is_sparse else None)


class CheckedColumns(NamedTuple):
    """The mapped columns of a log.

    Attributes:
        types: column -> its type in the first file that knows it.
        warnings: what was noticed.
    """

    types: Mapping[str, ColumnType]
    warnings: list[str]


def read_log_schemas(files: Sequence[tuple[str, date | None]], file_format: str) -> list[LogFile]:
    """Returns the files with their columns.

    Raises:
        InputError: a file can't be read, or no file has a line that is JSON.
    """
    found = [_described(path, day, file_format) for path, day in files]
    if found and all(file.is_sparse and not file.columns for file in found):
        raise no_object(found[0].path)
    return found


def check_columns(name: str, files: Sequence[LogFile], wanted: Mapping[str, str]) -> CheckedColumns:
    """Returns the types of the mapped columns, and warnings: columns that are new, or that nobody knows.

    A file in which a column is null throughout agrees with every other one.

    Args:
        name: the log, as the config names it: `logs.events.clicks`.
        files: in order; the first one that knows a column's type is what the others are held against.
        wanted: config key -> column that the config maps. Keys that begin with `features.` are attributes,
            `time`, `ingest_time`, `valid_from` and `valid_to` are times, all others ids.

    Raises:
        ConfigError: the config maps a column that isn't there.
        InputError: a mapped column is missing from a later file, has another type there, or one that can't be
            what it is mapped as.
    """
    if not files:
        return CheckedColumns({column: UNKNOWN_TYPE for column in wanted.values()}, [])
    types: dict[str, ColumnType] = {}
    warnings: dict[str, str] = {}
    for key, column in wanted.items():
        use = _use_of(key)
        types[column] = _type_of(f"{name}.{key}", column, use, files)
        if use == "attribute" and all(column not in file.columns for file in files):
            warnings[column] = (
                f"{name}.{key} = {column!r} stands in no line that was looked at, in none of {len(files)} "
                "files: it is read as text"
            )
    for file in files[1:]:
        for column in file.columns:
            if column not in files[0].columns and column not in types:
                warnings.setdefault(column, f"{name}: column {column} is new in {file.path}, it is ignored")
    return CheckedColumns(types, list(warnings.values()))


class Placed(NamedTuple):
    """A mapped column.

    Attributes:
        key: as the config names it: `logs.events.clicks.user_id`.
        column: its name in the files.
        kind: its type.
    """

    key: str
    column: str
    kind: ColumnType


def check_equal(what: str, columns: Sequence[Placed]) -> None:
    """Raises ConfigError where the types of columns that are compared can't be made equal.

    Args:
        what: what they hold, e.g. `user_id`.
        columns: the first one is what the others are held against.
    """
    for other in columns[1:]:
        first = columns[0]
        if not first.kind.can_equal(other.kind):
            raise ConfigError(
                f"{what}: {first.key} = {first.column!r} is {first.kind}, {other.key} = {other.column!r} is "
                f"{other.kind}: no value of the one can equal one of the other; map columns of one type, or "
                "write one of the logs again"
            )


def refuse_type(key: str, kind: ColumnType) -> str | None:
    """Returns what a config key wants where a type can't be that; None where it can."""
    use = _use_of(key)
    return None if kind.family in _USES[use] else _WANTED[use]


def _use_of(key: str) -> str:
    if key.startswith("features."):
        return "attribute"
    return "time" if key in ("time", "ingest_time", "valid_from", "valid_to") else "id"


def _type_of(key: str, column: str, use: str, files: Sequence[LogFile]) -> ColumnType:
    """Returns the type of a mapped column; raises as `check_columns`."""
    first, is_nowhere = files[0], all(column not in file.columns for file in files)
    if is_nowhere and first.is_sparse and use == "attribute":
        return UNKNOWN_TYPE
    if is_nowhere or first.type_of(column) is None:
        shown = next(file for file in files if file.columns)
        raise ConfigError(
            f"{key} = {column!r} is no column of {shown.path}: it has {', '.join(shown.columns)}"
        )
    known, where = UNKNOWN_TYPE, first.path
    for file in files:
        found = file.type_of(column)
        if found is None:
            raise InputError(
                f"{file.path}: column {column} is missing, in {first.path} it is {first.columns[column]}: "
                "write the file again with it, or move it out of the log"
            )
        if found.family not in _USES[use]:
            raise InputError(
                f"{key}: column {column} is {found} in {file.path}, which can't be {_WANTED[use]}"
            )
        if file.header.count(column) > 1:
            raise InputError(
                f"{key}: {file.path} has {file.header.count(column)} columns {column}: give each its own name"
            )
        if not found.agrees_with(known):
            raise InputError(
                f"{file.path}: column {column} is {found}, in {where} it is {known}: write the file again "
                "with that type, or move it out of the log"
            )
        if known.family == NOTHING:
            known, where = found, file.path
    return known


def _described(path: str, day: date | None, file_format: str) -> LogFile:
    if file_format == "parquet":
        schema, types = parquet_columns(path)
        return LogFile(path, day, types, tuple(schema.names))
    head = read_head(path)
    if file_format == "csv":
        header = csv_header(path, head)
        return LogFile(path, day, dict.fromkeys(header, STRING), header, head.has_mark)
    return LogFile(path, day, _json_columns(path, head), has_mark=head.has_mark, is_sparse=True)


def csv_header(path: str, head: Head, delimiter: str = ",") -> tuple[str, ...]:
    """Returns the names in a CSV file's first line. Raises InputError where there are none."""
    try:
        # newline=None: carriage returns alone end lines, too, as they do for Spark.
        lines = csv.reader(io.StringIO(head.text, newline=None), delimiter=delimiter)
        header = tuple(next(lines, []))
    except csv.Error as error:
        raise InputError(f"{path}: its first line is no CSV: {error}: write the file again") from error
    if not header:
        raise InputError(f"{path} is empty: a CSV file must begin with the names of its columns")
    return header


def parquet_columns(path: str) -> tuple[pa.Schema, dict[str, ColumnType]]:
    """Returns a file's schema and the types of its columns. Raises InputError where there is no footer."""
    filesystem, inner = filesystems.filesystem_of(path)
    try:
        schema = parquet.ParquetFile(inner, filesystem=filesystem).schema
        arrow = schema.to_arrow_schema()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{path} is no whole Parquet file: {' '.join(str(error).split())[:200]}: write it again, or say "
            "in file_format what it is"
        ) from error
    leaves = [schema.column(number) for number in range(len(schema))]
    physical = {leaf.path: str(leaf.physical_type) for leaf in leaves}
    types = {column.name: parquet_type(column.type, physical.get(column.name, "")) for column in arrow}
    return arrow, types


def _json_columns(path: str, head: Head) -> dict[str, ColumnType]:
    """Returns the columns of the first lines with the JSON type that each has where it isn't null."""
    columns: dict[str, ColumnType] = {}
    for line in head.text.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue  # rejected as `malformed_line` when the data is read
        if isinstance(record, dict):
            for column, value in record.items():
                columns[column] = _merged(columns.get(column, UNKNOWN_TYPE), json_type(value))
    if head.text.strip() and not columns:
        raise no_object(path)
    return columns


def _merged(known: ColumnType, found: ColumnType) -> ColumnType:
    """Returns the type of a JSON column that has values of both: the first one's, where both are scalars."""
    if NOTHING in (known.family, found.family):
        return found if known.family == NOTHING else known
    is_nested = {known.family, found.family} & {LIST, WEIGHTS}
    if is_nested and known != found and known.family != OTHER:
        return ColumnType(f"{known} and {found}", OTHER)
    return known
