"""What the join of a day noticed: match rates, orphans, repeats, clock skew, delays, skewed keys.

impressions  how many there are, how many clicked and converted
clicks, conversions   of the day: how many, matched to an impression, orphans, before their cause
repeats      clicks and conversions beyond the first one of an impression
delay_s      {"click": {"<= 60": 12, ...}, "conversion": ...}: of what belongs to the day's impressions
top_keys     {"user_id": [[key, rows, share], ...], ...}: the most frequent keys
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.samples.attribution import BEFORE_CAUSE, CLICK_TIME_US, OWNER_ID, OWNER_TIME_US
from esmm_spark.samples.day import SECOND_US, Day

# Upper ends of the delay histogram's bins, in seconds; the last bin is open.
DELAY_BINS_S = (0, 1, 10, 60, 600, 3_600, 21_600, 86_400, 259_200, 604_800, 2_592_000)
_TOP = 5


def report_join(
    impressions: DataFrame, clicks: DataFrame, conversions: DataFrame, day: Day
) -> dict[str, Any]:
    """Returns the report described above.

    Args:
        impressions: the day's, with user_id, item_id, num_clicks and num_conversions.
        clicks: what `attribute_clicks` gave, of all days.
        conversions: what `attribute_conversions` gave, of all days.
        day: the day.
    """
    clicks_of_day = clicks.where(day.holds(F.col("time_us")))
    conversions_of_day = conversions.where(day.holds(F.col("time_us")))
    found = _collect(
        {
            "impressions": _long(impressions.agg(*_totals())),
            "repeats": _long(impressions.agg(*_repeats())),
            "clicks": _long(clicks_of_day.agg(*_matches(F.lit(False)))),
            "conversions": _long(conversions_of_day.agg(*_matches(F.col(CLICK_TIME_US).isNotNull()))),
            "click delays": _delays(clicks, F.col(OWNER_TIME_US), day),
            "conversion delays": _delays(conversions, F.col(CLICK_TIME_US), day),
            "user_id": _top_keys(impressions, "user_id"),
            "item_id": _top_keys(impressions, "item_id"),
            "item_id of conversions": _top_keys(conversions_of_day, "item_id"),
        }
    )
    totals = {name: found[name]["total"] for name in ("impressions", "conversions")}
    return {
        "impressions": found["impressions"],
        "clicks": _with_rate(found["clicks"]),
        "conversions": _with_rate(found["conversions"]),
        "repeats": found["repeats"],
        "delay_s": {
            kind: {name: counts[name] for name in delay_bins() if name in counts}
            for kind, counts in (("click", found["click delays"]), ("conversion", found["conversion delays"]))
        },
        "top_keys": {
            "user_id": _with_shares(found["user_id"], totals["impressions"]),
            "item_id": _with_shares(found["item_id"], totals["impressions"]),
            "item_id of conversions": _with_shares(found["item_id of conversions"], totals["conversions"]),
        },
    }


def delay_bins() -> Sequence[str]:
    """Returns the names of the histogram's bins, in order."""
    return [*(f"<= {end}" for end in DELAY_BINS_S), f"> {DELAY_BINS_S[-1]}"]


def _collect(parts: dict[str, DataFrame]) -> dict[str, dict[str, int]]:
    """Returns name -> key -> count of frames of (key, count): one job for all of them."""
    named = [frame.select(F.lit(name).alias("name"), "key", "count") for name, frame in parts.items()]
    found: dict[str, dict[str, int]] = {name: {} for name in parts}
    for row in reduce(DataFrame.unionByName, named).collect():
        found[row.name][row.key] = int(row["count"])
    return found


def _long(totals: DataFrame) -> DataFrame:
    """Returns one row of totals as (key, count)."""
    columns = [F.col(name).cast("bigint") for name in totals.columns]
    return totals.select(*columns).unpivot([], [*totals.columns], "key", "count")


def _totals() -> list[Column]:
    return [
        F.count(F.lit(1)).alias("total"),
        F.count_if(F.col("num_clicks") > 0).alias("clicked"),
        F.count_if(F.col("num_conversions") > 0).alias("converted"),
    ]


def _repeats() -> list[Column]:
    def beyond_first(number: str) -> Column:
        return F.coalesce(F.sum(F.greatest(F.col(number) - 1, F.lit(0))), F.lit(0))

    return [
        beyond_first("num_clicks").alias("clicks"),
        beyond_first("num_conversions").alias("conversions"),
    ]


def _matches(has_cause: Column) -> list[Column]:
    is_matched = F.col(OWNER_ID).isNotNull()
    return [
        F.count(F.lit(1)).alias("total"),
        F.count_if(is_matched).alias("matched"),
        F.count_if(~is_matched & ~has_cause).alias("orphans"),
        F.count_if(~is_matched & has_cause).alias("of_orphan_clicks"),
        F.count_if(BEFORE_CAUSE).alias("before_cause"),
    ]


def _with_rate(counts: dict[str, int]) -> dict[str, Any]:
    rate = round(counts["matched"] / counts["total"], 6) if counts["total"] else None
    return {**counts, "match_rate": rate}


def _delays(events: DataFrame, cause_us: Column, day: Day) -> DataFrame:
    seconds = (F.col("time_us") - cause_us) / SECOND_US
    label = F.lit(f"> {DELAY_BINS_S[-1]}")
    for end in reversed(DELAY_BINS_S):
        label = F.when(seconds <= end, f"<= {end}").otherwise(label)
    return events.where(day.holds(F.col(OWNER_TIME_US))).groupBy(label.alias("key")).count()


def _top_keys(rows: DataFrame, key: str) -> DataFrame:
    if key not in rows.columns:
        return rows.groupBy(F.lit("").alias("key")).count().where("false")
    counts = rows.groupBy(F.col(key).alias("key")).count()
    return counts.orderBy(F.col("count").desc(), "key").limit(_TOP)


def _with_shares(counts: dict[str, int], total: int) -> list[list[Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[key, count, round(count / total, 6)] for key, count in ordered]
