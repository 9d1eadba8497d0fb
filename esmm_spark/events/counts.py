"""What becomes of the lines of a day's logs: each is accepted, rejected with a reason, or noted."""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.events.join.sources import DayLogs
from esmm_spark.events.reading.day import Day
from esmm_spark.events.reading.lines import REASONS
from esmm_spark.logs.heads import BYTE_ORDER_MARKS

# Lines of other days in other days' folders: they are those days' to count.
_ELSEWHERE = "elsewhere"


def count_lines(logs: DayLogs, day: Day, paths: Mapping[str, str]) -> list[SourceCounts]:
    """Returns what became of the day's lines of each log, and of all lines of the catalogs.

    Read = accepted + rejects + the notes below.

    The day's lines are those of its folder (without day folders: all that are read) and its events from other
    folders. Noted are `other_days`, lines whose event is not of the day, and `after_as_of`; and, which is no
    number of lines, `byte_order_marks`: files that begin with one.

    Raises:
        CountMismatchError: lines got lost between reading and judging them.
    """
    frames = [frame for name in logs.lines for frame in _fates(logs, day, name)]
    catalogs = _catalogs(logs)
    frames += [frame for name, lines in catalogs.items() for frame in _fates_of_catalog(name, lines)]
    paths = {
        **paths,
        **{name: catalog.path for name, (catalog, _) in zip(catalogs, logs.catalogs, strict=True)},
    }
    counts: dict[str, dict[str, dict[str | None, int]]]
    counts = {name: {"read": {}, "judged": {}} for name in (*logs.lines, *catalogs)}
    # One job for all: there are few fates of lines.
    for row in reduce(DataFrame.unionByName, frames).collect():
        counts[row.log][row.stage][row.fate] = row["count"]
    sources = []
    for name, found in counts.items():
        sources.append(_source(name, paths[name], day, found["read"], found["judged"]))
        if logs.byte_order_marks.get(name):
            sources[-1].notes[BYTE_ORDER_MARKS] = logs.byte_order_marks[name]
    return sources


def rejected_lines(logs: DayLogs, day: Day) -> DataFrame:
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
    is_bad = F.coalesce(F.col("reason").isin(*REASONS), F.lit(False))
    return F.when(is_bad, _is_of_folder(day)).otherwise(day.holds(F.col("time_us")))


def _fates(logs: DayLogs, day: Day, name: str) -> tuple[DataFrame, DataFrame]:
    """Returns how many lines were read, by note, and how many judged, by reason: log, stage, fate, count."""
    is_known = F.lit(True) if day.as_of_us is None else F.col("time_us") <= day.as_of_us
    fate = (
        F.when(~_is_of_day(day) & ~_is_of_folder(day), _ELSEWHERE)
        .when(~_is_of_day(day), "other_days")
        .when(F.col("reason").isNull() & ~is_known, "after_as_of")
    )
    # Grouped, not filtered: Spark would work out a filter's `reason` anew at each place where it stands.
    read = logs.raw[name].select(fate.alias("fate")).groupBy("fate").count()
    judged = _by_reason(logs.lines[name].where(_is_of_day(day)))
    return _as_counts(read, name, "read"), _as_counts(judged, name, "judged")


def _fates_of_catalog(name: str, lines: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Returns the same of a catalog, of which all lines are read for each day."""
    read = lines.agg(F.count(F.lit(1)).alias("count")).withColumn("fate", F.lit(None).cast("string"))
    return _as_counts(read, name, "read"), _as_counts(_by_reason(lines), name, "judged")


def _by_reason(lines: DataFrame) -> DataFrame:
    return lines.groupBy(F.coalesce("reason", F.lit("accepted")).alias("fate")).count()


def _as_counts(found: DataFrame, name: str, stage: str) -> DataFrame:
    return found.select(F.lit(name).alias("log"), F.lit(stage).alias("stage"), "fate", "count")


def _source(
    name: str, path: str, day: Day, read: dict[str | None, int], judged: dict[str | None, int]
) -> SourceCounts:
    notes = {note: count for note, count in read.items() if note not in (None, _ELSEWHERE)}
    lines_read = read.get(None, 0) + sum(notes.values())
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
