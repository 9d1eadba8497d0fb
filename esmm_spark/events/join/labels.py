"""A day's impressions with their labels, and a digest that tells whether these have changed."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.event_config import EventLogs
from esmm_spark.contracts.schemas.columns import LABEL_COLUMNS, names_of
from esmm_spark.events.join.attribution import attribute_clicks, attribute_conversions, label_impressions
from esmm_spark.events.join.maturity import is_mature
from esmm_spark.events.join.sources import (
    CLICKS,
    CONVERSIONS,
    IMPRESSIONS,
    LOGS,
    DayLogs,
    label_ranges,
)
from esmm_spark.events.reading.day import Day


@dataclass(frozen=True)
class Labelled:
    """A day's impressions with their labels, and the events around it; all cached.

    Attributes:
        all_impressions: accepted ones of the day, with LABEL_COLUMNS beside their own.
        clicks: attributed, of all days that matter.
        conversions: likewise.
        immature: impressions whose windows end after `as_of`.
        what_immature: whether to drop, keep or flag them.
        digest: a text that changes when a label of the day does, or which impressions there are.
    """

    all_impressions: DataFrame
    clicks: DataFrame
    conversions: DataFrame
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
        for frame in (self.all_impressions, self.clicks, self.conversions):
            frame.unpersist()


def label_day(events: EventLogs, logs: DayLogs, day: Day) -> Labelled:
    """Returns the day's impressions with their labels.

    Args:
        events: the logs' config.
        logs: what `read_day_logs` gave for the day.
        day: the day.
    """
    impressions = logs.accepted(IMPRESSIONS)
    ranges = label_ranges(events, day)
    narrow = {name: _without_attributes(logs.accepted(name), *ranges[name]) for name in LOGS}
    clicks = attribute_clicks(narrow[IMPRESSIONS], narrow[CLICKS], events.attribution).persist()
    conversions = attribute_conversions(clicks, narrow[CONVERSIONS], events.attribution).persist()
    labels = label_impressions(clicks, conversions)
    all_impressions = (
        impressions.where(day.holds(F.col("time_us")))
        .join(labels, on=["impression_id", "time_us"], how="left")
        .withColumns(
            {
                "num_clicks": F.coalesce("num_clicks", F.lit(0)),
                "num_conversions": F.coalesce("num_conversions", F.lit(0)),
                "mature": is_mature(F.col("time_us"), events.attribution, day.as_of_us),
            }
        )
        .withColumns(
            {
                "click": (F.col("num_clicks") > 0).cast("tinyint"),
                "conversion": (F.col("num_conversions") > 0).cast("tinyint"),
            }
        )
        .persist()
    )
    immature, digest = _digest(all_impressions, events.immature)
    return Labelled(all_impressions, clicks, conversions, immature, events.immature, digest)


def _digest(all_impressions: DataFrame, what_immature: str) -> tuple[int, str]:
    """Returns how many impressions are immature, and the digest: in the pass that fills the cache."""
    is_kept = F.col("mature") if what_immature == "drop" else F.lit(True)
    flag = F.col("mature") if what_immature == "flag" else F.lit(None).cast("boolean")
    label = F.xxhash64(*(name for name in names_of(LABEL_COLUMNS) if name != "mature"), flag)
    row = all_impressions.agg(
        F.count_if(~F.col("mature")).alias("immature"),
        F.count_if(is_kept).alias("kept"),
        F.count_if(is_kept & (F.col("click") == 1)).alias("clicked"),
        F.bit_xor(F.when(is_kept, label)).alias("labels"),
    ).collect()[0]
    return row.immature, f"{row.kept}-{row.clicked}-{(row.labels or 0) % 2**64:016x}"


def _without_attributes(events: DataFrame, first_us: int, last_us: int) -> DataFrame:
    """Returns the events of a range with their ids and time alone: what is sorted should be small."""
    kept = [name for name in events.columns if not name.startswith("@") and name != "context_key"]
    return events.where(F.col("time_us").between(first_us, last_us)).select(*kept)
