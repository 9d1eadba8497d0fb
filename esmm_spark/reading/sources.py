"""A source of the config as a column of raw lines: columns, paths, texts put together, expressions."""

from collections.abc import Sequence
from difflib import get_close_matches

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, DataType, MapType, StructType

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.tables.column_source import ColumnSource, names_in_sql
from esmm_spark.reading.values import quoted, text_value
from esmm_spark.spark.session import first_line

_MAX_NAMED = 20


def source_column(frame: DataFrame, source: ColumnSource, key: str, where: str) -> Column:
    """Returns the source's value on each line of the frame.

    Args:
        frame: the raw columns of files of one layout.
        source: as the config has it.
        key: where it stands: `logs.table.features.206`.
        where: one of the files, for messages.

    Raises:
        ConfigError: it names a column that isn't there, or its expression is none.
    """
    if source.column is not None:
        return _path(frame, source.column, key, where)
    if source.concat is not None:
        texts = [_scalar_text(frame, part, key, where) for part in source.concat]
        separated = [item for text in texts for item in (F.lit(source.separator), text)][1:]
        return F.concat(*separated)
    if source.expr is not None:
        return _expression(frame, source.expr, key, where)
    return F.lit(source.constant)


def condition_column(frame: DataFrame, condition: str, key: str, where: str) -> Column:
    """Returns whether a condition in Spark SQL is true of each line; null is not.

    Args are those of `source_column`. Raises ConfigError where it is no condition.
    """
    found = _expression(frame, condition, key, where)
    kind = frame.select(found.alias("condition")).schema["condition"].dataType
    if not isinstance(kind, BooleanType):
        raise ConfigError(
            f"{key} = {condition!r} is no condition, it gives {kind.simpleString()}: write what is true of "
            "the lines that are wanted, such as \"status <> 'test'\""
        )
    return F.coalesce(found, F.lit(False))


def missing_name(error: ConfigError) -> str | None:
    """Returns the column, or the path or its end, that an expression names in vain; None if it names all."""
    if not isinstance(error.__cause__, PySparkException):
        return None
    found = error.__cause__.getMessageParameters() or {}
    return next(iter(names_in_sql(found.get("objectName") or found.get("fieldName") or "")), None)


def no_column(name: str, known: Sequence[str], key: str, where: str) -> ConfigError:
    """Returns the error of a column that isn't there, with those whose names are near."""
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    listed = ", ".join(known[:_MAX_NAMED]) + (" ..." if len(known) > _MAX_NAMED else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {listed}"
    return ConfigError(f"{key} = {name!r} is no column of {where}: {hint}")


def _path(frame: DataFrame, name: str, key: str, where: str) -> Column:
    """Returns a column, or what a path leads to: a struct's field, a map's value, a field of list items."""
    known = [column for column in frame.columns if not column.startswith("__")]
    if name in known:
        return F.col(quoted(name))
    first, *steps = name.split(".")
    if first not in known:
        raise no_column(name, known, key, where)
    found, kind = F.col(quoted(first)), frame.schema[first].dataType
    for number, step in enumerate(steps):
        inner: DataType = kind.elementType if isinstance(kind, ArrayType) else kind
        if isinstance(kind, MapType):
            found, kind = found[step], kind.valueType
        elif isinstance(inner, StructType):
            if step not in inner.names:
                raise no_column(
                    name, [".".join([first, *steps[:number], n]) for n in inner.names], key, where
                )
            found = found[step]
            of_step = inner[step].dataType
            kind = ArrayType(of_step) if isinstance(kind, ArrayType) else of_step
        else:
            so_far = ".".join([first, *steps[:number]])
            raise ConfigError(
                f"{key} = {name!r}: {so_far} is {kind.simpleString()} in {where}, which has no {step}: a "
                "path leads into structs and maps"
            )
    return found


def _scalar_text(frame: DataFrame, source: ColumnSource, key: str, where: str) -> Column:
    part = source_column(frame, source, key, where)
    kind = frame.select(part.alias("part")).schema["part"].dataType
    if isinstance(kind, ArrayType | MapType | StructType):
        raise ConfigError(
            f"{key}: concat takes texts and numbers, and {source} is {kind.simpleString()} in {where}: name "
            "a path into it, or an expr"
        )
    return text_value(part, kind)


def _expression(frame: DataFrame, text: str, key: str, where: str) -> Column:
    """Returns a column of Spark SQL that gives one value a line, the same in each run."""
    shown = " ".join(text.split())
    try:
        plan = frame.select(F.lit(0), F.expr(text))._jdf.queryExecution().analyzed()
    except PySparkException as error:
        raise ConfigError(f"{key}: expr {shown!r} fails on {where}: {first_line(error)}") from error
    before = frame._jdf.queryExecution().analyzed()
    found = plan.expressions()
    # The expressions alone: a plan below that numbers lines is none that gives the same twice.
    if not all(found.apply(place).deterministic() for place in range(found.size())):
        raise ConfigError(
            f"{key}: expr {shown!r} gives other values in each run: leave out rand, uuid and such"
        )
    if plan.nodeName() != "Project" or plan.child().nodeName() != before.nodeName():
        raise ConfigError(
            f"{key}: expr {shown!r} is no value of a line: leave out aggregates, windows and generators"
        )
    return F.expr(text)
