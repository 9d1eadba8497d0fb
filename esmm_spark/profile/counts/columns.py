"""The columns of a table as text, whatever lies in the files, and each value with its column's number."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, DataType, MapType, StructType

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.profile.counts.facts import Shape
from esmm_spark.reading.exploding import HAS_ITEM, exploded
from esmm_spark.reading.raw_columns import CORRUPT, RawPart
from esmm_spark.reading.sources import condition_column
from esmm_spark.reading.times import check_time_format, day_of_folder
from esmm_spark.reading.values import attribute_value, quoted
from esmm_spark.tables.files import OpenTable, open_table

TABLE_KEY = "logs.table"
FOLDER_DAY = "folder_day"

_TYPES = {"value": "string", "list": "array<string>", "weights": "map<string, double>"}


class Leaf(NamedTuple):
    """What can be read of a table: a column, or a path into one.

    Attributes:
        name: as a source of the config has it.
        type: as the files have it, in Spark's words.
        shape: what a line holds.
    """

    name: str
    type: str
    shape: Shape


class ReadTable(NamedTuple):
    """A table as the profile reads it.

    Attributes:
        table: how; `explode` is set where a list of structs makes a line per item.
        parts: the raw columns of the files of each layout, a line per impression, and one of the files.
        leaves: of all layouts, in their order.
        unread: names and types of columns that can't be read.
    """

    table: TableLog
    parts: list[tuple[DataFrame, str]]
    leaves: list[Leaf]
    unread: list[str]


def open_leaves(spark: SparkSession, table: TableLog, is_guessed: bool) -> ReadTable:
    """Returns the columns of a table.

    Args:
        spark: the session.
        table: how it is read.
        is_guessed: whether a list of structs, if there is one alone, is taken for the list of impressions.

    Raises:
        InputError: no table, or a column is of two shapes in two files.
        ConfigError: `where`, `explode` or `time_format` is none.
    """
    check_time_format(spark, table, TABLE_KEY)
    opened = open_table(spark, table, table.path)
    if is_guessed and (found := _list_of_structs(opened)) is not None:
        table = table.model_copy(update={"explode": found})
    parts, leaves, unread = [], dict[str, Leaf](), dict[str, None]()
    for part in opened.parts:
        raw = _raw(part, table)
        for name, kind in _leaf_types(raw):
            shape = _shape(kind)
            if shape is None:
                unread[f"{name} ({kind.simpleString()})"] = None
                continue
            leaf = leaves.setdefault(name, Leaf(name, kind.simpleString(), shape))
            if leaf.shape != shape:
                raise InputError(
                    f"{part.file}: column {name} is {kind.simpleString()}, in other files it is {leaf.type}: "
                    "write the file again with that type, or move it out of the table"
                )
        parts.append((raw, part.file))
    return ReadTable(table, parts, list(leaves.values()), list(unread))


def leaf_columns(raw: DataFrame, leaves: Sequence[Leaf]) -> list[Column]:
    """Returns each leaf as `c0`, `c1`, ... with the type that it has; null where these files have none."""
    found = dict(_leaf_columns(raw))
    return [
        found.get(leaf.name, F.lit(None).cast(_TYPES[leaf.shape])).alias(f"c{number}")
        for number, leaf in enumerate(leaves)
    ]


def text_columns(named: DataFrame, leaves: Sequence[Leaf]) -> list[Column]:
    """Returns `leaf_columns` as string, array<string> or map<string, double>, null where empty."""
    names = [f"c{number}" for number in range(len(leaves))]
    return [attribute_value(named, name).alias(name) for name in names]


def entries(lines: DataFrame, leaves: Sequence[Leaf], others: Sequence[str] = ()) -> DataFrame:
    """Returns each value: `column`, `value`, `is_line`, `length`, and the columns `others` of its line.

    One of the entries of a line and column has `is_line`, whether there is a value or none; that of a list
    has no value but its length, null where it is empty.

    Args:
        lines: `c0`, `c1`, ..., and `others`.
        leaves: the columns.
        others: names.
    """
    arrays = [_entries_of(number, leaf) for number, leaf in enumerate(leaves)]
    scalars = [array for array, leaf in zip(arrays, leaves, strict=True) if leaf.shape == "value"]
    lists = [array for array, leaf in zip(arrays, leaves, strict=True) if leaf.shape != "value"]
    all_entries = F.concat(F.array(*scalars), *lists) if scalars else F.concat(*lists)
    return lines.select(*others, F.inline(all_entries))


def _entries_of(number: int, leaf: Leaf) -> Column:
    value = F.col(f"c{number}")
    if leaf.shape == "value":
        return _entry(number, value, True, F.lit(None))
    items = value if leaf.shape == "list" else F.map_keys(value)
    line = F.array(_entry(number, F.lit(None), True, F.when(value.isNotNull(), F.size(value))))
    each = F.transform(items, lambda item: _entry(number, item, False, F.lit(None)))
    return F.when(value.isNull(), line).otherwise(F.concat(line, each))


def _entry(number: int, value: Column, is_line: bool, length: Column) -> Column:
    return F.struct(
        F.lit(number).alias("column"),
        value.cast("string").alias("value"),
        F.lit(is_line).alias("is_line"),
        length.cast("int").alias("length"),
    )


def _raw(part: RawPart, table: TableLog) -> DataFrame:
    raw = part.lines
    if table.day_folders is not None and table.day_folders not in raw.columns:
        raw = raw.withColumn(table.day_folders, day_of_folder(table.day_folders))
    raw = raw.withColumn(FOLDER_DAY, day_of_folder(table.day_folders))
    if table.explode is not None:
        raw = exploded(raw, table.explode, f"{TABLE_KEY}.explode", part.file)
        raw = raw.where(F.col(HAS_ITEM))
    if table.where is not None:
        is_wanted = condition_column(raw, table.where, f"{TABLE_KEY}.where", part.file)
        raw = raw.where(is_wanted | F.col(CORRUPT).isNotNull())
    return raw


def _list_of_structs(opened: OpenTable) -> str | None:
    """Returns the path of the one list of structs; None where there is none, or several."""
    found = set()
    for part in opened.parts:
        todo = [(field.name, field.dataType) for field in part.lines.schema]
        while todo:
            name, kind = todo.pop()
            if isinstance(kind, StructType):
                todo += [(f"{name}.{field.name}", field.dataType) for field in kind]
            elif isinstance(kind, ArrayType) and isinstance(kind.elementType, StructType):
                found.add(name)
    return found.pop() if len(found) == 1 else None


def _leaf_types(raw: DataFrame) -> Iterator[tuple[str, DataType]]:
    schema = raw.select(*(column.alias(name) for name, column in _leaf_columns(raw))).schema
    yield from ((field.name, field.dataType) for field in schema)


def _leaf_columns(raw: DataFrame) -> Iterator[tuple[str, Column]]:
    """Yields path and value of each column; fields of structs, and of structs in lists, by themselves."""
    inner = [name for name in raw.columns if name.startswith("__") or name in (CORRUPT, FOLDER_DAY)]
    todo = [(f.name, F.col(quoted(f.name)), f.dataType) for f in raw.schema if f.name not in inner]
    while todo:
        name, column, kind = todo.pop(0)
        is_list = isinstance(kind, ArrayType)
        inside = kind.elementType if isinstance(kind, ArrayType) else kind
        if not isinstance(inside, StructType):
            yield name, column
            continue
        fields = [
            (
                f"{name}.{field.name}",
                column.getField(field.name),
                ArrayType(field.dataType) if is_list else field.dataType,
            )
            for field in inside
        ]
        todo = [*fields, *todo]


def _shape(kind: DataType) -> Shape | None:
    """Returns what a line holds of a type; None of one that is no feature."""
    if isinstance(kind, MapType):
        is_read = kind.valueType.typeName() in ("double", "float", "integer", "long", "short", "byte")
        return "weights" if is_read and _is_scalar(kind.keyType) else None
    if isinstance(kind, ArrayType):
        return "list" if _is_scalar(kind.elementType) else None
    return "value" if _is_scalar(kind) else None


def _is_scalar(kind: DataType) -> bool:
    return not isinstance(kind, ArrayType | MapType | StructType | BinaryType)
