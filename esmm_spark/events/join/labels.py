"""Labels of a day's impressions, and a digest that changes with them."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.funnel import IMPRESSIONS, Funnel
from esmm_spark.contracts.schemas.columns import label_columns, names_of
from esmm_spark.events.join.attribution import (
    attribute_to_causes,
    attribute_to_impressions,
    label_impressions,
)
from esmm_spark.events.join.maturity import is_mature
from esmm_spark.events.join.reversals import reversed_events, without_reversed
from esmm_spark.events.join.sources import DayLogs, label_ranges
from esmm_spark.events.reading.day import Day


@dataclass(frozen=True)
class Labelled:
    """A day's impressions with their labels, and the events around it; cached.

    Attributes:
        all_impressions: accepted ones of the day, with `columns.label_columns` beside their own.
        events: task -> its attributed events, of all days that matter, without those that are taken back.
        reversals: log -> what `reversed_events` gave; not cached.
        immature: impressions whose windows end after `as_of`.
        what_immature: whether to drop, keep or flag them.
        digest: a text that changes when a label of the day does, or which impressions there are.
    """

    all_impressions: DataFrame
    events: dict[str, DataFrame]
    reversals: dict[str, DataFrame]
    immature: int
    what_immature: str
    digest: str

    @property
    def impressions(self) -> DataFrame:
        """Those that become examples. `mature` is null unless immature ones are flagged."""
        if self.what_immature == "flag":
            return self.all_impressions
        kept = self.all_impressions.where("mature") if self.what_immature == "drop" else self.all_impressions
        return kept.withColumn("mature", F.lit(None).cast("boolean"))

    @property
    def dropped(self) -> int:
        """How many do not."""
        return self.immature if self.what_immature == "drop" else 0

    def unpersist(self) -> None:
        """Frees the cached frames."""
        for frame in (self.all_impressions, *self.events.values()):
            frame.unpersist()


def label_day(funnel: Funnel, logs: DayLogs, day: Day) -> Labelled:
    """Returns the day's impressions with their labels.

    Args:
        funnel: the logs' config.
        logs: what `read_day_logs` gave for the day.
        day: the day.
    """
    impressions = logs.accepted(IMPRESSIONS)
    ranges = label_ranges(funnel, day)
    narrow = {name: _without_attributes(logs.accepted(name), *ranges[name]) for name in funnel.logs}
    events: dict[str, DataFrame] = {}
    for link in funnel.links:
        own, cause = narrow[link.log_name], funnel.cause_of(link)
        for reversal in funnel.reversals_of(link):
            own = without_reversed(own, narrow[reversal.log_name], reversal)
        if cause is None:
            attributed = attribute_to_impressions(narrow[IMPRESSIONS], own, link)
        else:
            attributed = attribute_to_causes(events[cause.task], own, cause, link)
        events[link.task] = attributed.persist()
    number = {task: F.coalesce(f"num_{task}s", F.lit(0)) for task in events}
    reversals = {each.log_name: reversed_events(narrow, each) for each in funnel.reversals}
    all_impressions = (
        impressions.where(day.holds(F.col("time_us")))
        .join(label_impressions(events), on=["impression_id", "time_us"], how="left")
        .withColumns(
            {
                **{f"num_{task}s": of_task for task, of_task in number.items()},
                **{task: (of_task > 0).cast("tinyint") for task, of_task in number.items()},
                "mature": is_mature(F.col("time_us"), funnel, day.as_of_us),
            }
        )
        .persist()
    )
    what_immature = funnel.events.immature
    immature, digest = _digest(all_impressions, list(events), what_immature)
    return Labelled(all_impressions, events, reversals, immature, what_immature, digest)


def _digest(all_impressions: DataFrame, tasks: Sequence[str], what_immature: str) -> tuple[int, str]:
    """Returns how many impressions are immature, and the digest: in the pass that fills the cache."""
    is_kept = F.col("mature") if what_immature == "drop" else F.lit(True)
    flag = F.col("mature") if what_immature == "flag" else F.lit(None).cast("boolean")
    label = F.xxhash64(*(name for name in names_of(label_columns(tasks)) if name != "mature"), flag)
    totals = all_impressions.agg(
        F.count_if(~F.col("mature")).alias("immature"),
        F.count_if(is_kept).alias("kept"),
        F.count_if(is_kept & (F.col(tasks[0]) == 1)).alias("positive"),
        F.bit_xor(F.when(is_kept, label)).alias("labels"),
    ).collect()[0]
    return totals.immature, f"{totals.kept}-{totals.positive}-{(totals.labels or 0) % 2**64:016x}"


def _without_attributes(events: DataFrame, first_us: int, last_us: int) -> DataFrame:
    """Returns the events of a range with their ids and time alone: what is sorted should be small."""
    kept = [name for name in events.columns if not name.startswith("@") and name != "context_key"]
    return events.where(F.col("time_us").between(first_us, last_us)).select(*kept)
