"""Which lines of the three logs and of the catalogs a day needs."""

from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.event_config import Catalog, ClickLog, ConversionLog, EventLogs, ImpressionLog
from esmm_spark.logs.event_files import days_around
from esmm_spark.logs.events import EventLines, read_catalog, read_events
from esmm_spark.samples.column_agreement import check_agreement
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
        catalogs: each with all its lines, not cached.
        warnings: what was noticed about the files.
        byte_order_marks: log -> how many of the files of `raw` begin with one; `catalogs.0` likewise.
    """

    raw: dict[str, DataFrame]
    lines: dict[str, DataFrame]
    catalogs: list[tuple[Catalog, DataFrame]]
    warnings: list[str]
    byte_order_marks: dict[str, int]

    def accepted(self, log: str) -> DataFrame:
        """Returns the events that are no rejects."""
        return self.lines[log].where("reason is null").drop("reason", "line", "folder_day")

    def accepted_catalogs(self) -> list[tuple[Catalog, DataFrame]]:
        """Returns each catalog with its lines that are no rejects."""
        return [
            (catalog, lines.where("reason is null").drop("reason", "line"))
            for catalog, lines in self.catalogs
        ]

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
        ConfigError, InputError: as `read_events`, or ids whose types can't be made equal.
    """
    configs: dict[str, ImpressionLog | ClickLog | ConversionLog] = {
        IMPRESSIONS: logs.impressions,
        CLICKS: logs.clicks,
        CONVERSIONS: logs.conversions,
    }
    result = DayLogs({}, {}, [], [], {})
    tables: dict[str, EventLines] = {}
    for name, (first, last) in time_ranges(logs, day).items():
        config = configs[name]
        if not with_features and config.file_format == "parquet":
            config = config.model_copy(update={"features": {}})
        folders = days_around(first, last, config.late_days)
        near = days_around(day.start_us, day.end_us - 1, config.late_days)
        read = read_events(spark, name, config, folders, near)
        last = last if day.as_of_us is None else min(last, day.as_of_us)
        # In this order: what is wrong with a line costs more to find out.
        needed = F.col("time_us").between(first, last) | F.col("reason").isNotNull()
        lines = read.lines.where(needed)
        if name == IMPRESSIONS:
            lines = _without_others_attributes(lines, day)
        result.raw[name] = read.near
        result.lines[name] = _deduplicated(lines, name).persist()
        tables[name] = read
    for number, catalog in enumerate(logs.catalogs if with_features else []):
        table = read_catalog(spark, number, catalog)
        tables[f"catalogs.{number}"] = table
        result.catalogs.append((catalog, table.lines))
    check_agreement(logs, {name: table.types for name, table in tables.items()})
    for name, table in tables.items():
        result.warnings.extend(table.warnings)
        result.byte_order_marks[name] = table.byte_order_marks
    return result


def _without_others_attributes(lines: DataFrame, day: Day) -> DataFrame:
    """Returns the lines, attributes null in those that are not of the day: less to sort and to cache."""
    attributes = [name for name in lines.columns if name.startswith("@")]
    is_ours = day.holds(F.col("time_us"))
    return lines.withColumns({name: F.when(is_ours, F.col(f"`{name}`")) for name in attributes})


def _deduplicated(lines: DataFrame, name: str) -> DataFrame:
    id_column = f"{name.removesuffix('s')}_id"
    return reject_duplicates(lines, id_column) if id_column in lines.columns else lines
