"""Event logs to canonical lines, one per raw line: ids as text, one time unit, and why it is rejected.

impression_id, click_id, conversion_id, user_id, item_id, context_key   string, those that the log has
time_us      bigint   event time, microseconds since 1970, UTC
arrived_us   bigint   when the line was known, not before it happened; only of logs with `ingest_time`
@<name>      string | array<string> | map<string, double>   an attribute, null where empty
folder_day   date     the day of its file's folder; null where the log has no day folders
reason       string   null, or why the line is rejected: the first of EVENT_REASONS that is true of it
note         string   null, or why the line is left out, which is no mistake (reading/named_sources.py)
line         string   the mapped columns as JSON, for rejects/
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.event_config import EventLog
from esmm_spark.contracts.events.catalog import Catalog
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.events.reading.snapshots import validity_of
from esmm_spark.reading.column_types import NOTHING, ColumnType
from esmm_spark.reading.columns import read_log_schemas
from esmm_spark.reading.files import list_log_files
from esmm_spark.reading.local_days import day_number, start_of_day_us
from esmm_spark.reading.named_sources import NOTE, RAW, name_sources, read_named, source_types
from esmm_spark.reading.raw_columns import CORRUPT
from esmm_spark.reading.reasons import BAD_ID, MALFORMED_LINE, NO_ID, TIME_OUT_OF_RANGE, UNPARSABLE_TIME
from esmm_spark.reading.times import (
    END_US,
    day_of_folder,
    is_out_of_range,
    microseconds_of,
)
from esmm_spark.reading.values import (
    attribute_value,
    is_any,
    is_bad_id,
    is_inexact,
    quoted,
    text_value,
)

ARRIVED_US = "arrived_us"

WRONG_FOLDER = "wrong_folder"  # in a day's folder where an event of its time is never looked for
NEVER_VALID = "never_valid"  # a catalog's entry whose valid_to is not after its valid_from
EVENT_REASONS = (MALFORMED_LINE, NO_ID, BAD_ID, UNPARSABLE_TIME, TIME_OUT_OF_RANGE, WRONG_FOLDER)

# An id is a double too large to be exact; an attribute is a list or an object where nobody knew of one.
_INEXACT, _IS_OTHER_TYPE = "__inexact", "__is_other_type"
_HAS_END = "__has_end"  # a catalog's entry has something where its end stands


@dataclass(frozen=True)
class EventLines:
    """The lines of one log or catalog, and what was noticed about its files.

    Attributes:
        lines: of all files.
        near: of those alone in whose folders lines of the day may lie; for a catalog, all.
        warnings: about new columns.
        types: key of the config, `features.206` -> type of what stands there.
        byte_order_marks: files of `near` that begin with one, which is skipped.
    """

    lines: DataFrame
    near: DataFrame
    warnings: list[str]
    types: Mapping[str, ColumnType]
    byte_order_marks: int


def read_events(
    spark: SparkSession,
    key: str,
    log: EventLog,
    ids: Mapping[str, tuple[str, ColumnSource]],
    files: Sequence[tuple[str, date | None]],
    near: tuple[date, date],
) -> EventLines:
    """Returns the lines of a log as described above.

    Args:
        spark: the session.
        key: where its config stands: `logs.events.clicks`.
        log: its config.
        ids: canonical name of an id, `user_id` -> its key below `key`, and its source.
        files: those to be read, with the days of their folders.
        near: the first and the last day in whose folder lines of the day may lie.

    Raises:
        ConfigError: a mapped column isn't there, or a path or an expression is wrong.
        InputError: files that don't agree.
    """
    logged = read_log_schemas(files, log.file_format)
    features = {f"features.{name}": source for name, source in log.features.items()}
    times = {"time": log.time} | ({} if log.ingest_time is None else {"ingest_time": log.ingest_time})
    named = name_sources(key, log, {**dict(ids.values()), **times, **features}, logged)
    frames = read_named(spark, named, logged)
    types = source_types(named, frames)
    id_keys = {name: id_key for name, (id_key, _) in ids.items()}

    def lines_of(parts: Sequence[DataFrame]) -> DataFrame:
        return reduce(DataFrame.unionByName, (_parsed(part, log, id_keys, types) for part in parts))

    some = [file for file in logged if file.day is None or near[0] <= file.day <= near[1]]
    lines = lines_of(frames)
    near_lines = lines if len(some) == len(logged) else lines_of(read_named(spark, named, some))
    return EventLines(lines, near_lines, named.warnings, types, sum(file.has_mark for file in some))


def _parsed(
    named: DataFrame,
    log: EventLog,
    ids: Mapping[str, str],
    types: Mapping[str, ColumnType],
) -> DataFrame:
    """Returns named sources as canonical columns; `ids`: canonical name -> key."""
    parsed = named.select(
        *(_id(named, key).alias(name) for name, key in ids.items()),
        microseconds_of(named, "time", log).alias("time_us"),
        *(microseconds_of(named, key, log).alias(ARRIVED_US) for key in types if key == "ingest_time"),
        *(attribute_value(named, f"features.{name}").alias(f"@{name}") for name in log.features),
        day_of_folder(log.day_folders).alias("folder_day"),
        *_line_columns(named, ids.values(), log.features, types),
    )
    judged = _with_reason(parsed, _reason(list(ids), log))
    return (
        judged
        if log.ingest_time is None
        else judged.withColumn(ARRIVED_US, F.greatest("time_us", ARRIVED_US))
    )


def is_known(lines: DataFrame, as_of_us: int | None) -> Column:
    """Returns whether a line had happened, and had arrived, by a time; of None all had."""
    if as_of_us is None:
        return F.lit(True)
    return F.col(ARRIVED_US if ARRIVED_US in lines.columns else "time_us") <= as_of_us


def read_catalog(
    spark: SparkSession,
    number: int,
    catalog: Catalog,
    files: Sequence[tuple[str, date | None]] | None = None,
) -> EventLines:
    """Returns the lines of a catalog: `<key>_id`, `valid_from_us`, `valid_to_us`, `@<name>`, `reason`.

    Args:
        spark: the session.
        number: its place in `logs.events.catalogs`, for messages.
        catalog: its config.
        files: those to be read, by default all.
    """
    times = {key: getattr(catalog, key) for key in ("valid_from", "valid_to") if getattr(catalog, key)}
    features = {f"features.{name}": source for name, source in catalog.features.items()}
    sources = {"key_column": catalog.key_column, **times, **features}
    chosen = list_log_files(catalog.path, catalog.day_folders) if files is None else files
    logged = read_log_schemas(chosen, catalog.file_format)
    named = name_sources(f"logs.events.catalogs.{number}", catalog, sources, logged)
    frames = read_named(spark, named, logged)
    types = source_types(named, frames)
    validity = validity_of({found for _, found in chosen if found is not None}, catalog)
    parts = (_parsed_catalog(part, catalog, types, validity) for part in frames)
    lines = reduce(DataFrame.unionByName, parts)
    return EventLines(lines, lines, named.warnings, types, sum(file.has_mark for file in logged))


def _parsed_catalog(
    named: DataFrame,
    catalog: Catalog,
    types: Mapping[str, ColumnType],
    validity: Mapping[date, tuple[int, int | None]],
) -> DataFrame:
    """Returns named sources of a catalog as canonical columns; `validity`: of its snapshots, if any."""
    key_id, no_time = f"{catalog.key}_id", F.lit(None).cast("bigint")
    times = {
        key: microseconds_of(named, key, catalog) if key in types else no_time
        for key in ("valid_from", "valid_to")
    }
    if validity:
        folder = day_of_folder(catalog.day_folders)
        for place, key in enumerate(times):
            by_day = [F.lit(each) for day, range_us in validity.items() for each in (day, range_us[place])]
            times[key] = F.create_map(*by_day)[folder].cast("bigint")
    parsed = named.select(
        _id(named, "key_column").alias(key_id),
        *(time_us.alias(f"{key}_us") for key, time_us in times.items()),
        *(attribute_value(named, f"features.{name}").alias(f"@{name}") for name in catalog.features),
        *_line_columns(named, ["key_column"], catalog.features, types),
        *(F.col(quoted(key)).isNotNull().alias(_HAS_END) for key in types if key == "valid_to"),
    )
    begins, ends = F.col("valid_from_us"), F.col("valid_to_us")
    unparsable = F.lit(False)
    if "valid_from" in types:
        unparsable = begins.isNull()
    if "valid_to" in types:
        unparsable |= ends.isNull() & F.col(_HAS_END)
    reason = (
        F.when(_is_malformed(), MALFORMED_LINE)
        .when(F.col(key_id).isNull(), NO_ID)
        .when(F.col(_INEXACT), BAD_ID)
        .when(unparsable, UNPARSABLE_TIME)
        .when(_is_out_of_validity(catalog), TIME_OUT_OF_RANGE)
        .when(ends <= begins, NEVER_VALID)
    )
    return _with_reason(parsed, reason).drop(_HAS_END)


def _id(named: DataFrame, key: str) -> Column:
    return text_value(F.col(quoted(key)), named.schema[key].dataType)


def _line_columns(
    named: DataFrame, ids: Iterable[str], attributes: Iterable[str], types: Mapping[str, ColumnType]
) -> list[Column]:
    """Returns what is only there to tell what becomes of a line, and to show it."""
    inexact = [found for key in ids if (found := is_inexact(named, key)) is not None]
    keys = [f"features.{name}" for name in attributes]
    # Of a JSON key that no looked at line had, nobody knows that it is no list or object until one comes.
    unknown = [F.col(quoted(key)) for key in keys if types[key].family == NOTHING]
    nested = [value.startswith("[") | value.startswith("{") for value in unknown]
    return [
        F.col(RAW),
        F.col(NOTE),
        F.col(CORRUPT),
        is_any(inexact).alias(_INEXACT),
        is_any(nested).alias(_IS_OTHER_TYPE),
    ]


def _is_malformed() -> Column:
    return F.col(CORRUPT).isNotNull() | F.col(_IS_OTHER_TYPE)


def _with_reason(parsed: DataFrame, reason: Column) -> DataFrame:
    """Returns `parsed` with `reason`, `note` and, only where there is a reason, `line`.

    What they are made of is left out.
    """
    line = F.when(F.col("reason").isNotNull(), F.coalesce(CORRUPT, F.to_json(RAW)))
    known = F.when(F.col(NOTE).isNull(), reason)
    judged = parsed.withColumn("reason", known).withColumn("line", line).withColumn("note", F.col(NOTE))
    return judged.drop(CORRUPT, _IS_OTHER_TYPE, _INEXACT, RAW, NOTE)


def _reason(ids: Sequence[str], log: EventLog) -> Column:
    missing = reduce(Column.__or__, (F.col(key).isNull() for key in ids))
    bad = is_bad_id(ids) | F.col(_INEXACT)
    time_us = F.col("time_us")
    days_late = F.unix_date("folder_day") - day_number(time_us, log.time_zone)
    is_elsewhere = ~days_late.between(-1, log.late_days)
    return (
        F.when(_is_malformed(), MALFORMED_LINE)
        .when(missing, NO_ID)
        .when(bad, BAD_ID)
        .when(time_us.isNull(), UNPARSABLE_TIME)
        .when(F.lit(False) if log.ingest_time is None else F.col(ARRIVED_US).isNull(), UNPARSABLE_TIME)
        .when(is_out_of_range(time_us, log.earliest_time), TIME_OUT_OF_RANGE)
        .when(is_elsewhere, WRONG_FOLDER)
    )


def _is_out_of_validity(catalog: Catalog) -> Column:
    """Returns whether a catalog's time is out of range; one up to 1970, or an end from 2100 on, is none."""
    begins, ends = F.col("valid_from_us"), F.col("valid_to_us")
    earliest_us = start_of_day_us(catalog.earliest_time)
    is_early = ((begins > 0) & (begins < earliest_us)) | ((ends > 0) & (ends < earliest_us))
    return F.coalesce(is_early, F.lit(False)) | F.coalesce(begins >= END_US, F.lit(False))
