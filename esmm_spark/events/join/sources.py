"""Which lines of the logs and of the catalogs a day needs."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.events.catalog import Catalog
from esmm_spark.contracts.funnel import IMPRESSION_ID, IMPRESSIONS, EventLink, Funnel
from esmm_spark.events.features.history import history_range_us
from esmm_spark.events.join.needed_folders import IsExcused, never_excused, require_folders
from esmm_spark.events.reading.column_agreement import check_agreement
from esmm_spark.events.reading.day import SECOND_US, Day
from esmm_spark.events.reading.deduplication import reject_duplicates
from esmm_spark.events.reading.lines import ARRIVED_US, EventLines, is_known, read_catalog, read_events
from esmm_spark.events.reading.snapshots import CatalogFiles, choose_snapshots
from esmm_spark.files.fingerprints import Fingerprint, fingerprints_of
from esmm_spark.reading.files import days_around, files_between, list_log_files
from esmm_spark.reading.local_days import day_of_time, start_of_day_us


class DayFiles(NamedTuple):
    """The files that a day reads.

    Attributes:
        of_logs: log -> path and day of the folder of each file in whose folder an event that matters may lie.
        fingerprints: of these, log by log, in order.
        catalogs: of each.
        catalog_bytes: of all of them.
    """

    of_logs: Mapping[str, Sequence[tuple[str, date | None]]]
    fingerprints: Sequence[Fingerprint] = ()
    catalogs: Sequence[CatalogFiles] = ()
    catalog_bytes: int = 0

    @property
    def num_bytes(self) -> int:
        """Their size, as they are stored."""
        return sum(size for _, size, _ in self.fingerprints) + self.catalog_bytes


class DayLogs(NamedTuple):
    """The lines that a day needs; `reason` is set where one is rejected, duplicates included.

    Attributes:
        raw: log -> all lines of the files where the day's may lie, not cached.
        lines: log -> those in the range of `time_ranges`, and all bad ones, without what is left out.
            Cached: text is parsed once. Impressions of other days are there to compete for clicks, and have
            no attributes.
        catalogs: each with all its lines. Cached: they are counted and joined.
        warnings: what was noticed about the files.
        byte_order_marks: log -> how many of the files of `raw` begin with one; `catalogs.0` likewise.
    """

    raw: dict[str, DataFrame]
    lines: dict[str, DataFrame]
    catalogs: list[tuple[Catalog, DataFrame]]
    warnings: list[str]
    byte_order_marks: Mapping[str, int] = {}

    def accepted(self, log: str) -> DataFrame:
        """Returns the events that are no rejects."""
        return self.lines[log].where("reason is null").drop("reason", "line", "folder_day")

    def accepted_catalogs(self) -> list[tuple[Catalog, DataFrame]]:
        """Returns each catalog with its lines that are no rejects."""
        return [
            (catalog, lines.where("reason is null and note is null").drop("reason", "note", "line"))
            for catalog, lines in self.catalogs
        ]

    def unpersist(self) -> None:
        """Frees the cached lines."""
        for lines in (*self.lines.values(), *(lines for _, lines in self.catalogs)):
            lines.unpersist()


def own_event_range(link: EventLink, funnel: Funnel, day: Day) -> tuple[int, int]:
    """Returns [first, last] time, microseconds, of a root task's events that may belong to the day.

    Args:
        link: any of the tree; its root's range is returned.
        funnel: the logs' config.
        day: the day.
    """
    root = funnel.root_of(link)
    window_us = root.window_s * SECOND_US
    # Where user and item tell, an event doesn't belong to a later impression.
    before_us = window_us if root.is_by_id else 0
    return day.start_us - before_us, day.end_us - 1 + window_us


def label_ranges(funnel: Funnel, day: Day) -> dict[str, tuple[int, int]]:
    """Returns log -> [first, last] event time, microseconds, that can matter to the day's labels and report.

    What a day's partition says must follow from all logs, whatever is read of them. Let [S, L] be the day's
    first and last microsecond. First of a chain of two, with cw and vw the click and the conversion window,
    and b how long before its impression a click may come: cw where clicks name their impression, 0 where user
    and item tell.

    *Clicks.* An impression of the day owns clicks in [S - b, L + cw] only. Such a click's candidates lie in
    [click - cw, click + b]; one after the owner doesn't matter unless it is up to the click, one before it
    does. So impressions of [S - b - cw, L + cw] decide for each click whether an impression of the day owns
    it. No other click is taken for one of the day's: what is nearest is looked for first, the window held
    against it afterwards, and an impression of the day within the window of a click makes it one of these.

    *Conversions.* One that belongs to an impression of the day comes at or after its click, so it lies in
    [S - b, L + cw + vw]. Which click it belongs to depends on those in [conversion - vw, conversion], which
    begin at S - b - vw. (The last click is the same if fewer are known before it; the first is not.) A
    conversion before S - b is given no click but such as lie before S - b, and these are no impression's of
    the day.

    *The report.* Clicks of the day, [S, L], have their candidates and their early ones in [S - cw, L + cw],
    conversions of the day in [S - vw, L + vw]: all within the above. Whether the click of a conversion has an
    impression is known of clicks in [S - b, L + cw], the others are `of_earlier_causes`.

    *Longer chains, and trees.* The same holds of each event and the one that caused it. Let E(t) be L plus
    the windows on the chain to task t. Events of t that belong to the day lie in [S - b, E(t)], and which
    event of its parent p causes one depends on those in [S - b - window of t, E(t)]. An event of p before
    S - b, or after E(p), is no impression's of the day, whatever is known of what caused it: it lies outside
    of its own range above. So of each task events in [S - b - the longest window of its children, E of its
    children, or its own] are enough. Of several roots, impressions in the range of each.

    *Reversals.* An event is taken back, or is none, by reversals in [event, event + their window] alone, so
    those from the first event of their task's range to the last one plus the window are enough.

    Events beyond the ranges may be there or not: nothing above depends on their absence. And with `--as-of T`
    the logs are those that end at T, for which all of it holds as well.
    """
    ranges: dict[str, tuple[int, int]] = {}
    for link in funnel.links:
        first, last = own_event_range(link, funnel, day)
        if link.cause_task is None:
            earliest, latest = ranges.get(IMPRESSIONS, (first, last))
            first_impression = first - link.window_s * SECOND_US
            ranges[IMPRESSIONS] = (min(earliest, first_impression), max(latest, last))
        children = funnel.children(link)
        before_us = max((child.window_s for child in children), default=0) * SECOND_US
        after_s = max(funnel.chain_window_s(each) for each in (link, *children))
        ranges[link.log_name] = (first - before_us, day.end_us - 1 + after_s * SECOND_US)
    for reversal in funnel.reversals:
        first, last = ranges[reversal.link.log_name]
        ranges[reversal.log_name] = (first, last + reversal.log.window_s * SECOND_US)
    return ranges


def event_ranges(funnel: Funnel, day: Day) -> dict[str, tuple[int, int]]:
    """Returns the ranges of `label_ranges`, widened by what the day's histories count."""
    ranges = label_ranges(funnel, day)
    for link in funnel.links:
        first, last = ranges[link.log_name]
        of_log = [item for item in funnel.events.history if item.of == link.log_name]
        ranges[link.log_name] = (min(first, history_range_us(of_log, day.start_us)), last)
    return ranges


def time_ranges(funnel: Funnel, day: Day) -> dict[str, tuple[int, int]]:
    """Returns the ranges of `event_ranges`, each from the start of a day on: what must be read.

    Of lines that repeat an id on a day the earliest is kept: which one that is follows from all of the
    day before it.
    """
    ranges = event_ranges(funnel, day)
    return {
        name: (start_of_day_us(day_of_time(first, day.zone), day.zone), last)
        for name, (first, last) in ranges.items()
    }


def choose_files(
    funnel: Funnel, day: Day, with_features: bool, is_excused: IsExcused = never_excused
) -> DayFiles:
    """Returns the files that the day needs; reads names, sizes and footers alone.

    Args:
        funnel: the logs' config.
        day: the day.
        with_features: whether catalogs are read, too.
        is_excused: whether a log may lack a day's folder.

    Raises:
        MissingLogError: a folder that the day needs isn't there.
        InputError: as `list_log_files`, or a file vanished meanwhile.
    """
    configs, ranges = funnel.logs, time_ranges(funnel, day)
    files = {name: list_log_files(log.path, log.day_folders) for name, log in configs.items()}
    require_folders(configs, files, ranges, day, is_excused)
    chosen = {
        name: files_between(
            files[name], *days_around(first, last, configs[name].late_days, configs[name].time_zone)
        )
        for name, (first, last) in ranges.items()
    }
    fingerprints = [
        found
        for name, log in configs.items()
        for found in fingerprints_of(log.path, [path for path, _ in chosen[name]])
    ]
    # Events of histories have the attributes of their own time.
    first_us = min(first for first, _ in ranges.values())
    wanted = funnel.events.catalogs if with_features else []
    catalogs = [choose_snapshots(catalog, first_us, day) for catalog in wanted]
    paths = [path for catalog in catalogs for path, _ in catalog.files]
    catalog_bytes = sum(size for _, size, _ in fingerprints_of("the catalog", paths))
    return DayFiles(chosen, fingerprints, catalogs, catalog_bytes)


def read_day_logs(
    spark: SparkSession, funnel: Funnel, day: Day, files: DayFiles, with_features: bool
) -> DayLogs:
    """Returns the lines that the day needs.

    Args:
        spark: the session.
        funnel: the logs' config.
        day: the day.
        files: what `choose_files` gave.
        with_features: false if only labels are wanted: catalogs are not read then, nor attributes where what
            is read has no say in whether a line is malformed.

    Raises:
        ConfigError, InputError: as `read_events`, or ids whose types can't be made equal.
    """
    configs = funnel.logs
    own_ids = {IMPRESSIONS: IMPRESSION_ID, **{link.log_name: link.own_id for link in funnel.links}}
    result = DayLogs({}, {}, [], [], {})
    tables: dict[str, EventLines] = {}
    for name, (first, last) in time_ranges(funnel, day).items():
        config = configs[name]
        if not with_features and config.file_format == "parquet":
            config = config.model_copy(update={"features": {}})
        near = days_around(day.start_us, day.end_us - 1, config.late_days, config.time_zone)
        ids = {key: (funnel.key_of_id(name, key), source) for key, source in funnel.ids_of(name).items()}
        read = read_events(spark, funnel.key_of(name), config, ids, files.of_logs[name], near)
        # In this order: what is wrong with a line costs more to find out.
        is_needed = F.col("time_us").between(first, last) & is_known(read.lines, day.as_of_us)
        is_needed |= F.col("reason").isNotNull()
        lines = read.lines.where(F.col("note").isNull() & is_needed).drop("note", ARRIVED_US)
        if name == IMPRESSIONS:
            lines = _without_others_attributes(lines, day)
        result.raw[name] = read.near
        result.lines[name] = _deduplicated(lines, own_ids.get(name, ""), day.zone).persist()
        tables[name] = read
    for number, catalog in enumerate(funnel.events.catalogs if with_features else []):
        of_day = files.catalogs[number]
        table = read_catalog(spark, number, catalog, of_day.files)
        result.warnings.extend(of_day.warnings)
        tables[f"catalogs.{number}"] = table
        result.catalogs.append((catalog, table.lines.persist()))
    check_agreement(funnel, {name: table.types for name, table in tables.items()})
    for table in tables.values():
        result.warnings.extend(table.warnings)
    marks = {name: table.byte_order_marks for name, table in tables.items()}
    return result._replace(byte_order_marks=marks)


def _without_others_attributes(lines: DataFrame, day: Day) -> DataFrame:
    """Returns the lines, attributes null in those that are not of the day: less to sort and to cache."""
    attributes = [name for name in lines.columns if name.startswith("@")]
    is_ours = day.holds(F.col("time_us"))
    return lines.withColumns({name: F.when(is_ours, F.col(f"`{name}`")) for name in attributes})


def _deduplicated(lines: DataFrame, id_column: str, zone: str) -> DataFrame:
    return reject_duplicates(lines, id_column, zone) if id_column in lines.columns else lines
