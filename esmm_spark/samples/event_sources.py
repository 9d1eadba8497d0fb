"""Which lines of the three logs a day needs, and what becomes of those that are the day's own."""

from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.errors import CountMismatchError
from esmm_spark.event_config import Catalog, ClickLog, ConversionLog, EventLogs, ImpressionLog
from esmm_spark.logs.event_files import days_around
from esmm_spark.logs.events import REASONS, read_catalog, read_events
from esmm_spark.manifest import SourceCounts
from esmm_spark.samples.day import SECOND_US, Day
from esmm_spark.samples.deduplication import reject_duplicates
from esmm_spark.samples.history import history_range_us

IMPRESSIONS, CLICKS, CONVERSIONS = "impressions", "clicks", "conversions"
LOGS = (IMPRESSIONS, CLICKS, CONVERSIONS)


class DayLogs(NamedTuple):
    """The lines that a day needs; `reason` is set where one is rejected, duplicates included.

    Attributes:
        raw: log -> all lines of the files where the day's may lie, not cached.
        lines: log -> those in the range of `time_ranges`, and all bad ones. Cached: text is parsed once.
            Impressions of other days are there to compete for clicks, and have no attributes.
        catalogs: each with its accepted lines.
        warnings: what was noticed about the files.
    """

    raw: dict[str, DataFrame]
    lines: dict[str, DataFrame]
    catalogs: list[tuple[Catalog, DataFrame]]
    warnings: list[str]

    def accepted(self, log: str) -> DataFrame:
        """Returns the events that are no rejects."""
        return self.lines[log].where("reason is null").drop("reason", "line", "folder_day")

    def unpersist(self) -> None:
        """Frees the cached lines."""
        for lines in self.lines.values():
            lines.unpersist()


def label_ranges(logs: EventLogs, day: Day) -> dict[str, tuple[int, int]]:
    """Returns log -> [first, last] event time, microseconds, that can matter to the day's labels and report.

    Impressions a click window around the day compete for clicks, and clicks up to both windows after it
    compete for conversions.
    """
    click_us = logs.attribution.click_window_s * SECOND_US
    conversion_us = logs.attribution.conversion_window_s * SECOND_US
    last = day.end_us - 1 + click_us + conversion_us
    return {
        IMPRESSIONS: (day.start_us - click_us, day.end_us - 1 + click_us),
        CLICKS: (day.start_us - max(click_us, conversion_us), last),
        CONVERSIONS: (day.start_us - click_us, last),
    }


def time_ranges(logs: EventLogs, day: Day) -> dict[str, tuple[int, int]]:
    """Returns the ranges of `label_ranges`, widened by what the day's histories count."""
    ranges = label_ranges(logs, day)
    for of in (CLICKS, CONVERSIONS):
        first, last = ranges[of]
        earliest = history_range_us([item for item in logs.history if item.of == of], day.start_us)
        ranges[of] = (min(first, earliest), last)
    return ranges


def read_day_logs(spark: SparkSession, logs: EventLogs, day: Day, with_features: bool) -> DayLogs:
    """Returns the lines that the day needs.

    Args:
        spark: the session.
        logs: their config.
        day: the day.
        with_features: false if only labels are wanted: catalogs are not read then, nor attributes where what
            is read has no say in whether a line is malformed.

    Raises:
        ConfigError, InputError: as `read_events`.
    """
    configs: dict[str, ImpressionLog | ClickLog | ConversionLog] = {
        IMPRESSIONS: logs.impressions,
        CLICKS: logs.clicks,
        CONVERSIONS: logs.conversions,
    }
    result = DayLogs({}, {}, [], [])
    for name, (first, last) in time_ranges(logs, day).items():
        config = configs[name]
        if not with_features and config.file_format == "parquet":
            config = config.model_copy(update={"features": {}})
        folders = days_around(first, last, config.late_days)
        near = days_around(day.start_us, day.end_us - 1, config.late_days)
        read = read_events(spark, name, config, folders, near)
        last = last if day.as_of_us is None else min(last, day.as_of_us)
        needed = F.col("reason").isNotNull() | F.col("time_us").between(first, last)
        lines = read.lines.where(needed)
        if name == IMPRESSIONS:
            lines = _without_others_attributes(lines, day)
        result.raw[name] = read.near
        result.lines[name] = _deduplicated(lines, name).persist()
        result.warnings.extend(read.warnings)
    for number, catalog in enumerate(logs.catalogs if with_features else []):
        table = read_catalog(spark, number, catalog)
        result.warnings.extend(table.warnings)
        result.catalogs.append((catalog, table.lines.where("reason is null").drop("reason", "line")))
    return result


def count_lines(logs: DayLogs, day: Day, paths: dict[str, str]) -> list[SourceCounts]:
    """Returns what became of the day's lines of each log: read = accepted + rejects + the notes.

    The day's lines are those of its folder (without day folders: all that are read) and its events from other
    folders. Noted are `other_days`, lines whose event is not of the day, and `after_as_of`.

    Raises:
        CountMismatchError: lines got lost between reading and judging them.
    """
    frames = [frame for name in LOGS for frame in _fates(logs, day, name)]
    counts: dict[str, dict[str, dict[str | None, int]]] = {name: {"read": {}, "judged": {}} for name in LOGS}
    # One job for all: there are few fates of lines.
    for row in reduce(DataFrame.unionByName, frames).collect():
        counts[row.log][row.stage][row.fate] = row["count"]
    return [_source(name, paths[name], day, counts[name]["read"], counts[name]["judged"]) for name in LOGS]


def rejected_lines(logs: DayLogs, day: Day) -> DataFrame:
    """Returns the day's rejects of all logs: line binary, source, reason."""
    parts = [
        lines.where(F.col("reason").isNotNull() & _is_of_day(day)).select(
            F.col("line").cast("binary").alias("line"), F.lit(f"{day.name}.{name}").alias("source"), "reason"
        )
        for name, lines in logs.lines.items()
    ]
    return parts[0].unionByName(parts[1]).unionByName(parts[2])


def _without_others_attributes(lines: DataFrame, day: Day) -> DataFrame:
    """Returns the lines, attributes null in those that are not of the day: less to sort and to cache."""
    attributes = [name for name in lines.columns if name.startswith("@")]
    is_ours = day.holds(F.col("time_us"))
    return lines.withColumns({name: F.when(is_ours, F.col(f"`{name}`")) for name in attributes})


def _deduplicated(lines: DataFrame, name: str) -> DataFrame:
    id_column = f"{name.removesuffix('s')}_id"
    return reject_duplicates(lines, id_column) if id_column in lines.columns else lines


def _is_bad() -> Column:
    return F.coalesce(F.col("reason").isin(*REASONS), F.lit(False))


def _is_of_folder(day: Day) -> Column:
    return F.coalesce(F.col("folder_day") == F.lit(day.date), F.lit(True))


def _is_of_day(day: Day) -> Column:
    """Returns whether a line is the day's: a bad one by its folder, any other by its time."""
    return F.when(_is_bad(), _is_of_folder(day)).otherwise(day.holds(F.col("time_us")))


def _fates(logs: DayLogs, day: Day, name: str) -> tuple[DataFrame, DataFrame]:
    """Returns how many lines were read, by note, and how many judged, by reason: log, stage, fate, count."""
    is_known = F.lit(True) if day.as_of_us is None else F.col("time_us") <= day.as_of_us
    note = F.when(~_is_of_day(day), "other_days").when(~_is_bad() & ~is_known, "after_as_of")
    read = logs.raw[name].where(_is_of_day(day) | _is_of_folder(day)).groupBy(note.alias("fate")).count()
    judged = (
        logs.lines[name].where(_is_of_day(day)).groupBy(F.coalesce("reason", F.lit("accepted")).alias("fate"))
    )
    log = F.lit(name).alias("log")
    return (
        read.select(log, F.lit("read").alias("stage"), "fate", "count"),
        judged.count().select(log, F.lit("judged").alias("stage"), "fate", "count"),
    )


def _source(
    name: str, path: str, day: Day, read: dict[str | None, int], judged: dict[str | None, int]
) -> SourceCounts:
    lines_read = sum(read.values())
    notes = {note: count for note, count in read.items() if note is not None}
    accepted = judged.get("accepted", 0)
    rejects = {reason: count for reason, count in judged.items() if reason not in (None, "accepted")}
    if lines_read != accepted + sum(rejects.values()) + sum(notes.values()):
        raise CountMismatchError(
            f"{path}: {lines_read} lines read for {day.name}, but {accepted} accepted, "
            f"{sum(rejects.values())} rejected and {sum(notes.values())} of other times: a defect, nothing "
            "was replaced"
        )
    return SourceCounts(
        name=f"{day.name}.{name}",
        path=path,
        lines_read=lines_read,
        lines_accepted=accepted,
        rejects=dict(sorted(rejects.items())),
        notes=dict(sorted(notes.items())),
    )
