"""The sources of a log's config as columns of their keys: `user_id`, `features.206`, whatever they are.

A source that is a column alone is held against every file's type of it, and nothing else of a file is read.
Where a path, an expression, `where` or `explode` needs more, all columns are there for Spark to choose from.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.log_files import MappedFiles
from esmm_spark.reading.column_types import NOTHING, ColumnType, spark_type
from esmm_spark.reading.columns import LogFile, check_columns, refuse_type
from esmm_spark.reading.exploding import HAS_ITEM, exploded, item_name, position_of
from esmm_spark.reading.raw_columns import CORRUPT, PATH, RawPart, read_raw
from esmm_spark.reading.sources import condition_column, source_column
from esmm_spark.reading.times import check_time_format, is_without_time
from esmm_spark.reading.values import quoted

# Of a named line: what it was, for rejects; and whether it is left out, by which note.
RAW, NOTE = "__raw", "__note"
WITHOUT_ITEMS = "without_items"  # the list that is exploded is empty or null
FILTERED = "filtered"  # `where` isn't true of it
WITHOUT_TIME = "without_time"  # nothing stands where its time should, and `null_time` is `skip`
# The keys of a line's time: an event's, that of a catalog's entry.
_TIMES = ("time", "valid_from")


class NamedSources(NamedTuple):
    """The sources of one log.

    Attributes:
        key: where the log's config stands: `logs.events.clicks`.
        log: its config.
        sources: key below it -> source.
        plain: of those that are a column alone: key -> column.
        types: column of `plain` -> its type in the whole log.
        warnings: what was noticed about the files.
    """

    key: str
    log: MappedFiles
    sources: Mapping[str, ColumnSource]
    plain: Mapping[str, str]
    types: Mapping[str, ColumnType]
    warnings: list[str]


def name_sources(
    key: str, log: MappedFiles, sources: Mapping[str, ColumnSource], files: Sequence[LogFile]
) -> NamedSources:
    """Returns the sources, those that are columns checked. Args: see NamedSources; `files`: all of the log.

    Raises:
        ConfigError, InputError: as `check_columns`.
    """
    plain = {
        name: source.column
        for name, source in sources.items()
        if source.column is not None and _is_column(source.column, log, files)
    }
    types, warnings = check_columns(key, files, plain)
    return NamedSources(key, log, sources, plain, types, warnings)


def read_named(spark: SparkSession, named: NamedSources, files: Sequence[LogFile]) -> list[DataFrame]:
    """Returns frames with a column for each key of the sources, CORRUPT, PATH, RAW and NOTE.

    Args:
        spark: the session.
        named: what `name_sources` gave.
        files: of the log, perhaps not all.

    Raises:
        ConfigError: a path leads nowhere, an expression fails, or gives what its key can't take.
    """
    log = named.log
    check_time_format(spark, log, named.key)
    texts = [text for source in named.sources.values() for text in source.texts]
    texts += [text for text in (log.where, log.explode) if text is not None]
    is_more = len(named.plain) < len(named.sources) or bool(log.where or log.explode)
    parts = read_raw(spark, files, log.file_format, named.types, texts if is_more else ())
    return [_named(part, named) for part in parts]


def source_types(named: NamedSources, frames: Sequence[DataFrame]) -> dict[str, ColumnType]:
    """Returns key -> type of what stands there.

    Raises:
        ConfigError: a source gives what can't be an id, a time or an attribute.
        InputError: it gives another type in files of another layout.
    """
    found = {}
    for key, source in named.sources.items():
        if key in named.plain:
            found[key] = named.types[named.plain[key]]
            continue
        kinds = [spark_type(frame.schema[key].dataType) for frame in frames]
        if problem := refuse_type(key, kinds[0]):
            raise ConfigError(f"{named.key}.{key} = {source} is {kinds[0]}, which can't be {problem}")
        for kind in kinds[1:]:
            if not kind.agrees_with(kinds[0]):
                raise InputError(
                    f"{named.key}.{key} = {source} is {kinds[0]} in some files of {named.log.path} and "
                    f"{kind} in others: write them again with one type, or cast it in an expr"
                )
        found[key] = next((kind for kind in kinds if kind.family != NOTHING), kinds[0])
    return found


def _is_column(name: str, log: MappedFiles, files: Sequence[LogFile]) -> bool:
    """Returns whether a name is that of a column of the files, not a path nor made by `explode`."""
    if log.explode is not None and name.split(".")[0] in (item_name(log.explode), position_of(log.explode)):
        return False
    return "." not in name or not files or any(name in file.columns for file in files)


def _named(part: RawPart, named: NamedSources) -> DataFrame:
    raw, log, made = part.lines, named.log, named.sources.keys() - named.plain.keys()
    note: Column = F.lit(None).cast("string")
    if part.file and log.explode is not None:
        raw = exploded(raw, log.explode, f"{named.key}.explode", part.file)
        note = F.when(~F.col(HAS_ITEM), WITHOUT_ITEMS)
    if part.file and log.where is not None:
        is_wanted = condition_column(raw, log.where, f"{named.key}.where", part.file)
        is_left_out = F.col(CORRUPT).isNull() & ~is_wanted
        note = F.coalesce(note, F.when(is_left_out, FILTERED))
    columns = {}
    for key, source in named.sources.items():
        if key not in made:
            columns[key] = F.col(quoted(named.plain[key]))
        elif part.file:
            columns[key] = source_column(raw, source, f"{named.key}.{key}", part.file)
        else:
            columns[key] = F.lit(None).cast("string")
    shown = [F.col(quoted(column)) for column in named.types]
    shown += [columns[key].alias(key) for key in named.sources if key in made]
    lines = raw.select(
        *(column.alias(key) for key, column in columns.items()),
        CORRUPT,
        PATH,
        F.struct(*shown).alias(RAW),
        note.alias(NOTE),
    )
    time = next((key for key in _TIMES if key in columns), None)
    if log.null_time == "reject" or time is None:
        return lines
    is_skipped = F.col(CORRUPT).isNull() & is_without_time(lines, time)
    return lines.withColumn(NOTE, F.coalesce(NOTE, F.when(is_skipped, WITHOUT_TIME)))
