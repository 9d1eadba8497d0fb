"""The lines of a table with ids, labels and attributes as text, and what becomes of each.

impression_id  string    null where it is missing
context_key    string
time_us        bigint    microseconds since 1970; null where the table has no time
<task>         string    0, 1, nothing where it isn't known, ? where it is no label
@<name>        string | array<string> | map<string, double>   an attribute, null where empty
split          string    train, validation, test
reason         string    null, or why the line is rejected: the first of TABLE_REASONS that is true of it
note           string    null, or why it is neither rejected nor an example: the first of TABLE_NOTES
raw            string    of a rejected line: its text, or its sources as JSON
"""

import logging
from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    IntegralType,
    MapType,
    StringType,
    StructType,
)

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.logs.reasons import BAD_LABEL_NAME
from esmm_spark.reading.exploding import HAS_ITEM, exploded
from esmm_spark.reading.named_sources import FILTERED, WITHOUT_ITEMS, WITHOUT_TIME
from esmm_spark.reading.raw_columns import CORRUPT, RawPart
from esmm_spark.reading.reasons import BAD_ID, MALFORMED_LINE, NO_ID, TIME_OUT_OF_RANGE, UNPARSABLE_TIME
from esmm_spark.reading.sources import condition_column, missing_name, source_column
from esmm_spark.reading.times import day_of_folder, is_out_of_range, is_without_time, microseconds_of
from esmm_spark.reading.values import (
    attribute_value,
    is_any,
    is_bad_id,
    is_inexact,
    quoted,
    text_value,
)
from esmm_spark.tables.files import OpenTable
from esmm_spark.tables.labels import BAD_FLAG, label_columns_of
from esmm_spark.tables.line_ids import line_id, with_line_numbers
from esmm_spark.tables.splits import split_of_line

UNKNOWN_SPLIT = "unknown_split"  # a value of `splits.column` that names none
TABLE_REASONS = (
    MALFORMED_LINE,
    NO_ID,
    BAD_ID,
    UNPARSABLE_TIME,
    TIME_OUT_OF_RANGE,
    UNKNOWN_SPLIT,
    BAD_LABEL_NAME,
)

AFTER_AS_OF = "after_as_of"  # its time is, or it arrived then
IMMATURE = "immature_dropped"
TABLE_NOTES = (WITHOUT_ITEMS, FILTERED, WITHOUT_TIME, AFTER_AS_OF, IMMATURE)

_log = logging.getLogger(__name__)

_KEY, _LABELS = "logs.table", "labels."
_CONDITION, _LACKS_TIME, _IS_INEXACT = "__where", "__lacks_time", "__is_inexact"
_IS_IMMATURE, _IS_SKIPPED = "__is_immature", "__is_skipped"
_SOURCE = "__source "  # what stands in the line, under the key of its source
_KNOWN_US = "__known_us"  # not before it happened
_IDS = ("impression_id", "context_key")


class Wanted(NamedTuple):
    """What is read of a table.

    Attributes:
        table: the config.
        tasks: those whose labels are wanted.
        split: the split of all lines; None: as the config says.
        is_scored: whether labels, times and splits need not be there, nor a `where` of labels hold.
        as_they_stand: attributes that are left as text stands there, and lists of texts: perhaps empty, and a
            whole number perhaps with a point.
    """

    table: TableLog
    tasks: Tasks
    split: str | None = None
    is_scored: bool = False
    as_they_stand: frozenset[str] = frozenset()


def read_lines(opened: OpenTable, wanted: Wanted) -> DataFrame:
    """Returns all lines of a table, as above.

    Raises:
        ConfigError: a source names a column that isn't there, or one that can't be what it is named for.
    """
    parts = [_part_lines(part, opened, wanted) for part in opened.parts]
    return reduce(DataFrame.unionByName, parts)


def _part_lines(part: RawPart, opened: OpenTable, wanted: Wanted) -> DataFrame:
    table = wanted.table
    raw = part.lines if table.impression_id else with_line_numbers(part.lines)
    if table.day_folders is not None and table.day_folders not in raw.columns:
        raw = raw.withColumn(table.day_folders, day_of_folder(table.day_folders))
    raw = raw if table.explode is None else exploded(raw, table.explode, f"{_KEY}.explode", part.file)
    named, sources = _named(raw, part, opened, wanted)
    return _judged(_as_text(named, sources, wanted), wanted)


def _named(
    raw: DataFrame, part: RawPart, opened: OpenTable, wanted: Wanted
) -> tuple[DataFrame, Mapping[str, ColumnSource]]:
    """Returns the sources' values as columns of their keys, and those sources that are there."""
    table, columns, sources = wanted.table, [], {}
    for key, source in table.sources.items():
        try:
            found = source_column(raw, source, f"{_KEY}.{key}", part.file)
        except ConfigError:
            if wanted.is_scored and key.startswith((_LABELS, "time", "ingest_time", "splits.")):
                continue
            raise
        sources[key] = source
        columns.append(found.alias(key))
    if table.impression_id is None:
        columns.append(line_id(opened, table.explode).alias("impression_id"))
    condition = _condition(raw, wanted, part.file)
    if condition is not None:
        columns.append(condition.alias(_CONDITION))
    kept = [name for name in (CORRUPT, HAS_ITEM) if name in raw.columns]
    folder_day = day_of_folder(table.day_folders).alias("folder_day")
    named = raw.select(*columns, *kept, folder_day)
    for key, source in sources.items():
        check_type(named.schema[key].dataType, f"{_KEY}.{key} = {source}", part.file)
    return named, sources


def _condition(raw: DataFrame, wanted: Wanted, file: str) -> Column | None:
    """Returns `where`; None where there is none, or where it asks what is scored for labels."""
    table = wanted.table
    if table.where is None:
        return None
    try:
        return condition_column(raw, table.where, f"{_KEY}.where", file)
    except ConfigError as error:
        missing = missing_name(error)
        if not wanted.is_scored or missing is None or not _is_of_labels(missing, table):
            raise
        _log.warning(
            "%s.where names %s, of which labels are made and which %s lacks: no line is left out by it; to "
            "leave some out, set %s.where for this command to a condition on other columns",
            *(_KEY, missing, file, _KEY),
        )
        return None


def _is_of_labels(missing: str, table: TableLog) -> bool:
    """Returns whether a name, perhaps the end of a path alone, is one of those of which labels are made."""
    of_labels = [source for key, source in table.sources.items() if key.startswith(_LABELS)]
    end = f".{missing.lower()}"
    return any(f".{name.lower()}".endswith(end) for source in of_labels for name in source.names)


def _as_text(named: DataFrame, sources: Mapping[str, ColumnSource], wanted: Wanted) -> DataFrame:
    """Returns the lines' values as text, and columns that only decide what becomes of them."""
    table = wanted.table
    identifier = _scalar(named, "impression_id")
    times = {key: microseconds_of(named, key, table) for key in ("time", "ingest_time") if key in sources}
    time_us = times.get("time", F.lit(None))
    labels, is_immature = label_columns_of(named, table, wanted.tasks, time_us)
    inexact = [found for key in _IDS if key in sources and (found := is_inexact(named, key)) is not None]
    kept = [name for name in (CORRUPT, HAS_ITEM, _CONDITION) if name in named.columns]
    is_skipped = table.null_time == "skip" and "time" in sources
    return named.select(
        identifier.alias("impression_id"),
        (_scalar(named, "context_key") if table.context_key else identifier).alias("context_key"),
        time_us.cast("bigint").alias("time_us"),
        *(label.alias(task) for task, label in labels.items()),
        *(_attribute(named, name, wanted).alias(f"@{name}") for name in table.features),
        (F.lit(wanted.split) if wanted.split else split_of_line(named, table)).alias("split"),
        F.greatest(*times.values(), F.lit(None), F.lit(None)).cast("bigint").alias(_KNOWN_US),
        is_any([each.isNull() for each in times.values()]).alias(_LACKS_TIME),
        (is_without_time(named, "time") if is_skipped else F.lit(False)).alias(_IS_SKIPPED),
        is_immature.alias(_IS_IMMATURE),
        is_any(inexact).alias(_IS_INEXACT),
        *(F.col(quoted(key)).alias(f"{_SOURCE}{key}") for key in sources),
        *kept,
    )


def _judged(lines: DataFrame, wanted: Wanted) -> DataFrame:
    """Returns the lines with `reason`, `note` and `raw`, without what they are made of."""
    table = wanted.table
    time_us, is_malformed = F.col("time_us"), F.col(CORRUPT).isNotNull()
    is_left_out = F.lit(False)
    if HAS_ITEM in lines.columns:
        is_left_out |= ~F.col(HAS_ITEM)
    if _CONDITION in lines.columns:
        is_left_out |= ~F.col(_CONDITION)
    is_filtered, is_left_out = is_left_out, is_left_out | F.col(_IS_SKIPPED)
    reason = (
        F.when(is_malformed, MALFORMED_LINE)
        .when(is_left_out, F.lit(None))
        .when(F.col("impression_id").isNull() | F.col("context_key").isNull(), NO_ID)
        .when(is_bad_id(_IDS) | F.col(_IS_INEXACT), BAD_ID)
        .when(F.col(_LACKS_TIME), UNPARSABLE_TIME)
        .when(is_out_of_range(time_us, table.earliest_time), TIME_OUT_OF_RANGE)
        .when(F.col("split").isNull(), UNKNOWN_SPLIT)
        .when(is_any([F.col(task) == BAD_FLAG for task in wanted.tasks.names]), BAD_LABEL_NAME)
    )
    judged = lines.withColumn("reason", reason)
    note = F.when(F.col("reason").isNotNull(), F.lit(None))
    if HAS_ITEM in lines.columns:
        note = note.when(~F.col(HAS_ITEM), WITHOUT_ITEMS)
    note = note.when(is_filtered, FILTERED).when(is_left_out, WITHOUT_TIME)
    # What is scored has no labels yet: nothing of it is too late, or too young.
    if table.as_of_us is not None and not wanted.is_scored:
        note = note.when(F.col(_KNOWN_US) > table.as_of_us, AFTER_AS_OF)
    if table.immature == "drop" and not wanted.is_scored:
        note = note.when(F.col(_IS_IMMATURE), IMMATURE)
    sources = [name for name in lines.columns if name.startswith(_SOURCE)]
    # Of rejected lines alone: JSON of all would cost more than all else.
    shown = F.to_json(F.struct(*(F.col(quoted(name)).alias(name.removeprefix(_SOURCE)) for name in sources)))
    raw_text = F.when(F.col("reason").isNotNull(), F.coalesce(CORRUPT, shown))
    kept = [quoted(name) for name in judged.columns if not name.startswith("__")]
    return judged.select(*kept, note.cast("string").alias("note"), raw_text.alias("raw"))


def check_type(kind: DataType, what: str, where: str) -> None:
    """Raises ConfigError where a source has a type that its place can't take."""
    inner = kind.elementType if isinstance(kind, ArrayType) else None
    inner = kind.valueType if isinstance(kind, MapType) else inner
    is_nested = isinstance(kind, StructType) or isinstance(inner, ArrayType | MapType | StructType)
    is_attribute = what.startswith(f"{_KEY}.features.")
    if is_nested or (inner is not None and not is_attribute):
        wanted = "a value, a list of values or a map from values to weights" if is_attribute else "one value"
        raise ConfigError(
            f"{what} is {kind.simpleString()} in {where}, and must be {wanted}: name a path into it, or an "
            "expr"
        )


def _attribute(named: DataFrame, name: str, wanted: Wanted) -> Column:
    key = f"features.{name}"
    kind = named.schema[key].dataType
    item = kind.elementType if isinstance(kind, ArrayType) else kind
    if name in wanted.as_they_stand and isinstance(item, StringType | IntegralType | BooleanType):
        # All files' of one type, whatever each has.
        return F.col(quoted(key)).cast(ArrayType(StringType()) if item is not kind else StringType())
    return attribute_value(named, key)


def _scalar(named: DataFrame, key: str) -> Column:
    return text_value(F.col(quoted(key)), named.schema[key].dataType)
