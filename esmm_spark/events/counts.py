"""Counts a day's log lines as accepted, rejected with a reason, or noted."""

from collections import Counter
from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.events.join.sources import DayLogs
from esmm_spark.events.reading.day import Day
from esmm_spark.events.reading.lines import EVENT_REASONS, is_known
from esmm_spark.events.whole_logs import by_utc_day, mattering_day
from esmm_spark.logs.heads import BYTE_ORDER_MARKS

# Lines of other days in other days' folders: they are those days' to count.
_ELSEWHERE = "elsewhere"
_ACCEPTED = "accepted"
_READ, _JUDGED = "read", "judged"


class Counted(NamedTuple):
    """Counts of a day's lines.

    Attributes:
        sources: what became of the day's lines of each log, and of all lines of the catalogs.
        events_per_day: log -> UTC day -> accepted events that matter to the day (`whole_logs.py`).
    """

    sources: list[SourceCounts]
    events_per_day: dict[str, dict[str, int]]


def count_lines(logs: DayLogs, funnel: Funnel, day: Day) -> Counted:
    """Returns what became of the lines, in one Spark job.

    Read = accepted + rejects + the notes below.

    The day's lines are those of its folder (without day folders: all that are read) and its events from other
    folders. Noted are `other_days`, lines whose event is not of the day, what its config leaves out,
    `filtered` and `without_items`, and `after_as_of`; and, which is no number of lines, `byte_order_marks`:
    files that begin with one.

    Raises:
        CountMismatchError: lines got lost between reading and judging them.
    """
    frames = [frame for name in funnel.logs for frame in _fates(logs, funnel, day, name)]
    catalogs = _catalogs(logs)
    frames += [frame for name, lines in catalogs.items() for frame in _fates_of_catalog(name, lines)]
    paths = {name: log.path for name, log in funnel.logs.items()}
    paths |= {name: catalog.path for name, (catalog, _) in zip(catalogs, logs.catalogs, strict=True)}
    counts = {name: {_READ: Counter[str | None](), _JUDGED: Counter[str | None]()} for name in paths}
    per_day = []
    # One shuffle for all: there are few fates of lines.
    found = reduce(DataFrame.unionByName, frames).groupBy("log", "stage", "fate", "day").count()
    for counted in found.collect():
        counts[counted.log][counted.stage][counted.fate] += counted["count"]
        per_day.append((counted.log, counted.day, counted["count"]))
    sources = []
    for name, of_log in counts.items():
        sources.append(_source(name, paths[name], day, of_log[_READ], of_log[_JUDGED]))
        if logs.byte_order_marks.get(name):
            sources[-1].notes[BYTE_ORDER_MARKS] = logs.byte_order_marks[name]
    return Counted(sources, by_utc_day(per_day, funnel.logs))


def rejects_of_day(logs: DayLogs, day: Day) -> DataFrame:
    """Returns the day's rejects of all logs, and those of the catalogs: line binary, source, reason."""
    rejected = F.col("reason").isNotNull()
    frames = {name: lines.where(rejected & _is_of_day(day)) for name, lines in logs.lines.items()}
    frames |= {name: lines.where(rejected) for name, lines in _catalogs(logs).items()}
    parts = [
        lines.select(
            F.col("line").cast("binary").alias("line"), F.lit(f"{day.name}.{name}").alias("source"), "reason"
        )
        for name, lines in frames.items()
    ]
    return reduce(DataFrame.unionByName, parts)


def _catalogs(logs: DayLogs) -> dict[str, DataFrame]:
    """Returns the catalogs' lines by what they are called in the manifest."""
    return {f"catalogs.{number}": lines for number, (_, lines) in enumerate(logs.catalogs)}


def _is_of_folder(day: Day) -> Column:
    return F.coalesce(F.col("folder_day") == F.lit(day.date), F.lit(True))


def _is_of_day(day: Day) -> Column:
    """Returns whether a line is the day's: a bad one by its folder, others, duplicates too, by their time."""
    is_bad = F.coalesce(F.col("reason").isin(*EVENT_REASONS), F.lit(False)) | F.col("time_us").isNull()
    return F.when(is_bad, _is_of_folder(day)).otherwise(day.holds(F.col("time_us")))


def _fates(logs: DayLogs, funnel: Funnel, day: Day, name: str) -> tuple[DataFrame, DataFrame]:
    """Returns the lines that were read and those that were judged: log, stage, fate, day.

    The fate is a note, or null, of those read; a reason or `accepted` of those judged, null of other days'.
    """
    is_seen = is_known(logs.raw[name], day.as_of_us)
    note = (
        F.when(~_is_of_day(day) & ~_is_of_folder(day), _ELSEWHERE)
        .when(~_is_of_day(day), "other_days")
        .when(F.col("note").isNotNull(), F.col("note"))
        .when(F.col("reason").isNull() & ~is_seen, "after_as_of")
    )
    # Grouped, not filtered: Spark would work out a filter's `reason` anew at each place where it stands.
    read = _as_fates(logs.raw[name], name, _READ, note, F.lit(None))
    fate = F.when(_is_of_day(day), F.coalesce("reason", F.lit(_ACCEPTED)))
    return read, _as_fates(logs.lines[name], name, _JUDGED, fate, mattering_day(name, funnel, day))


def _fates_of_catalog(name: str, lines: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Returns the same of a catalog, of which all lines are judged for each day."""
    fate = F.when(F.col("note").isNull(), F.coalesce("reason", F.lit(_ACCEPTED)))
    read = _as_fates(lines, name, _READ, F.col("note"), F.lit(None))
    return read, _as_fates(lines, name, _JUDGED, fate, F.lit(None))


def _as_fates(lines: DataFrame, name: str, stage: str, fate: Column, day: Column) -> DataFrame:
    return lines.select(
        F.lit(name).alias("log"),
        F.lit(stage).alias("stage"),
        fate.cast("string").alias("fate"),
        day.cast("int").alias("day"),
    )


def _source(
    name: str, path: str, day: Day, read: Mapping[str | None, int], judged: Mapping[str | None, int]
) -> SourceCounts:
    notes = {note: count for note, count in read.items() if note not in (None, _ELSEWHERE)}
    lines_read = read.get(None, 0) + sum(notes.values())
    accepted = judged.get(_ACCEPTED, 0)
    rejects = {reason: count for reason, count in judged.items() if reason not in (None, _ACCEPTED)}
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
