"""The lines of a table with ids, labels and attributes as text, and why one is rejected.

impression_id  string    null where it is missing
context_key    string
<task>         string    0, 1, nothing where it isn't known, ? where it is no label
@<name>        string | array<string> | map<string, double>   an attribute, null where empty
split          string    train, validation, test
reason         string    null, or why the line is rejected: the first of REASONS that is true of it
raw            string    of a rejected line: its text, or its sources as JSON
"""

from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, StructType

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.table_config import TableLabel, TableLog
from esmm_spark.events.reading.lines import BAD_ID, MALFORMED_LINE, MISSING_ID
from esmm_spark.events.reading.raw_columns import CORRUPT
from esmm_spark.events.reading.values import attribute_value, is_inexact, quoted, text_value
from esmm_spark.tables.files import OpenTable, TablePart
from esmm_spark.tables.row_ids import row_id, with_row_numbers
from esmm_spark.tables.sources import source_column

REASONS = (MALFORMED_LINE, MISSING_ID, BAD_ID)

_KEY = "logs.table"
_BAD_ID_PATTERN = "[,\\x00-\\x1f]"
_NO_LABEL, _BAD_LABEL = "", "?"


def read_lines(opened: OpenTable, table: TableLog, tasks: Sequence[str], is_scored: bool) -> DataFrame:
    """Returns all lines of a table, as above but for `split`.

    Args:
        opened: its files.
        table: what it is.
        tasks: those whose labels are wanted.
        is_scored: whether labels that no file has are no mistake: they aren't known.

    Raises:
        ConfigError: a source names a column that isn't there, or one that can't be what it is named for.
    """
    parts = [_part_lines(part, opened, table, tasks, is_scored) for part in opened.parts]
    return reduce(DataFrame.unionByName, parts)


def _part_lines(
    part: TablePart, opened: OpenTable, table: TableLog, tasks: Sequence[str], is_scored: bool
) -> DataFrame:
    raw, where = part.lines, part.file
    sources = dict(table.sources)
    for task in [task for task in tasks if is_scored and f"labels.{task}" in sources]:
        if not _is_there(raw, sources[f"labels.{task}"], where):
            del sources[f"labels.{task}"]
    columns = {
        key: source_column(raw, source, f"{_KEY}.{key}", where).alias(key) for key, source in sources.items()
    }
    ids = []
    if table.impression_id is None:
        raw, ids = with_row_numbers(raw), [row_id(opened).alias("impression_id")]
    named = raw.select(*columns.values(), *ids, CORRUPT)
    for key, source in sources.items():
        _check_type(named, key, source, where)
    identifier = _scalar(named, "impression_id")
    selected = named.select(
        identifier.alias("impression_id"),
        (_scalar(named, "context_key") if table.context_key else identifier).alias("context_key"),
        *(_label(named, table.labels, task).alias(task) for task in tasks),
        *(attribute_value(named, f"features.{name}").alias(f"@{name}") for name in table.features),
        CORRUPT,
        _any([is_inexact(named, key) for key in ("impression_id", "context_key") if key in sources]).alias(
            "is_inexact"
        ),
        F.to_json(F.struct(*(quoted(key) for key in columns))).alias("json"),
    )
    reason = (
        F.when(F.col(CORRUPT).isNotNull(), MALFORMED_LINE)
        .when(F.col("impression_id").isNull() | F.col("context_key").isNull(), MISSING_ID)
        .when(F.concat_ws("", "impression_id", "context_key").rlike(_BAD_ID_PATTERN), BAD_ID)
        .when(F.col("is_inexact"), BAD_ID)
    )
    judged = selected.withColumn("reason", reason)
    raw_text = F.when(F.col("reason").isNotNull(), F.coalesce(CORRUPT, "json"))
    return judged.withColumn("raw", raw_text).drop(CORRUPT, "json", "is_inexact")


def _is_there(raw: DataFrame, source: ColumnSource, where: str) -> bool:
    try:
        source_column(raw, source, _KEY, where)
    except ConfigError:
        return False
    return True


def _check_type(named: DataFrame, key: str, source: ColumnSource, where: str) -> None:
    """Raises ConfigError where a source has a type that its place can't take."""
    kind = named.schema[key].dataType
    is_attribute = key.startswith("features.")
    nested = kind.typeName() in ("array", "map")
    inner = getattr(kind, "elementType", None) or getattr(kind, "keyType", None)
    is_struct = isinstance(kind, StructType) or (inner is not None and inner.typeName() in _NESTED)
    if is_struct or (nested and not is_attribute):
        wanted = "a value, a list of values or a map from values to weights" if is_attribute else "one value"
        raise ConfigError(
            f"{_KEY}.{key} = {source} is {kind.simpleString()} in {where}, and must be {wanted}: name a path "
            "into it, or an expr"
        )


_NESTED = ("array", "map", "struct")


def _scalar(named: DataFrame, key: str) -> Column:
    return text_value(F.col(quoted(key)), named.schema[key].dataType)


def _label(named: DataFrame, labels: Mapping[str, TableLabel], task: str) -> Column:
    """Returns a task's label: text, so that what is no label can be told."""
    key = f"labels.{task}"
    if task not in labels or key not in named.columns:
        return F.lit(_NO_LABEL)
    value = F.col(quoted(key))
    if labels[task].time is not None:
        return F.when(value.isNotNull(), "1").otherwise("0")
    if isinstance(named.schema[key].dataType, BooleanType):
        return F.coalesce(value.cast("int").cast("string"), F.lit(_NO_LABEL))
    text = _scalar(named, key)
    return (
        F.when(text.isNull(), _NO_LABEL)
        .when(text.isin("0", "1"), text)
        .when(text == "true", "1")
        .when(text == "false", "0")
        .otherwise(_BAD_LABEL)
    )


def _any(conditions: Sequence[Column | None]) -> Column:
    """Returns whether one is true; null is not."""
    known = [F.coalesce(each, F.lit(False)) for each in conditions if each is not None]
    return reduce(Column.__or__, known, F.lit(False))
