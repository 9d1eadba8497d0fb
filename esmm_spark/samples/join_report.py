"""What the join of a day noticed: match rates, orphans, repeats, clock skew, delays, skewed keys.

impressions  how many there are, how many clicked and converted
clicks, conversions   of the day: how many, matched to an impression, orphans, before their cause
repeats      clicks and conversions beyond the first one of an impression
delay_s      {"click": {"<= 60": 12, ...}, "conversion": ...}: of what belongs to the day's impressions
top_keys     {"user_id": [[key, rows, share], ...], ...}: the most frequent keys
"""

from collections.abc import Sequence
from itertools import pairwise
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
    of_day = conversions.where(day.holds(F.col("time_us")))
    return {
        "impressions": _impressions(impressions),
        "clicks": _matches(clicks.where(day.holds(F.col("time_us"))), F.lit(False)),
        "conversions": _matches(of_day, F.col(CLICK_TIME_US).isNotNull()),
        "repeats": _repeats(impressions),
        "delay_s": {
            "click": _delays(clicks, F.col(OWNER_TIME_US), day),
            "conversion": _delays(conversions, F.col(CLICK_TIME_US), day),
        },
        "top_keys": {
            "user_id": _top_keys(impressions, "user_id"),
            "item_id": _top_keys(impressions, "item_id"),
            **(
                {"item_id of conversions": _top_keys(of_day, "item_id")}
                if "item_id" in of_day.columns
                else {}
            ),
        },
    }


def _impressions(impressions: DataFrame) -> dict[str, int]:
    row = impressions.agg(
        F.count(F.lit(1)).alias("total"),
        F.count_if(F.col("num_clicks") > 0).alias("clicked"),
        F.count_if(F.col("num_conversions") > 0).alias("converted"),
    ).first()
    assert row is not None
    return {name: int(value) for name, value in row.asDict().items()}


def _matches(events: DataFrame, has_cause: Column) -> dict[str, Any]:
    """Returns total, matched, orphans, of_orphan_clicks, before_cause and the match rate."""
    is_matched = F.col(OWNER_ID).isNotNull()
    row = events.agg(
        F.count(F.lit(1)).alias("total"),
        F.count_if(is_matched).alias("matched"),
        F.count_if(~is_matched & ~has_cause).alias("orphans"),
        F.count_if(~is_matched & has_cause).alias("of_orphan_clicks"),
        F.count_if(BEFORE_CAUSE).alias("before_cause"),
    ).first()
    assert row is not None
    counts: dict[str, Any] = {name: int(value) for name, value in row.asDict().items()}
    counts["match_rate"] = round(counts["matched"] / counts["total"], 6) if counts["total"] else None
    return counts


def _repeats(impressions: DataFrame) -> dict[str, int]:
    row = impressions.agg(
        F.sum(F.greatest(F.col("num_clicks") - 1, F.lit(0))).alias("clicks"),
        F.sum(F.greatest(F.col("num_conversions") - 1, F.lit(0))).alias("conversions"),
    ).first()
    assert row is not None
    return {name: int(value or 0) for name, value in row.asDict().items()}


def _delays(events: DataFrame, cause_us: Column, day: Day) -> dict[str, int]:
    seconds = (F.col("time_us") - cause_us) / SECOND_US
    label = F.lit(f"> {DELAY_BINS_S[-1]}")
    for end in reversed(DELAY_BINS_S):
        label = F.when(seconds <= end, f"<= {end}").otherwise(label)
    rows = events.where(day.holds(F.col(OWNER_TIME_US))).groupBy(label.alias("bin")).count().collect()
    counts = {row.bin: int(row["count"]) for row in rows}
    return {name: counts[name] for name in delay_bins() if name in counts}


def delay_bins() -> Sequence[str]:
    """Returns the names of the histogram's bins, in order."""
    assert all(low < high for low, high in pairwise(DELAY_BINS_S))
    return [*(f"<= {end}" for end in DELAY_BINS_S), f"> {DELAY_BINS_S[-1]}"]


def _top_keys(rows: DataFrame, key: str) -> list[list[Any]]:
    counts = rows.groupBy(key).count()
    total = int(counts.agg(F.sum("count")).first()[0] or 0)  # type: ignore[index]
    top = counts.orderBy(F.col("count").desc(), F.col(key)).limit(_TOP).collect()
    return [[row[key], int(row["count"]), round(row["count"] / total, 6)] for row in top]
