"""What the join of a day noticed: match rates, orphans, repeats, clock skew, delays, skewed keys.

impressions  how many there are, how many clicked and converted
clicks, conversions   of the day: how many, matched to an impression, orphans, before their cause
             conversions of_earlier_clicks: whose click is so old that its impression isn't looked for; they
             have no part in the match rate
repeats      clicks and conversions beyond the first one of an impression
delay_s      {"click": {"<= 60": 12, ...}, "conversion": ...}: of what belongs to the day's impressions
top_keys     {"user_id": [[key, rows, share], ...], ...}: the most frequent keys
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.events.join.attribution import BEFORE_CAUSE, CLICK_TIME_US, OWNER_ID, OWNER_TIME_US
from esmm_spark.events.reading.day import SECOND_US, Day

# Upper ends of the delay histogram's bins, in seconds; the last bin is open.
DELAY_BINS_S = (0, 1, 10, 60, 600, 3_600, 21_600, 86_400, 259_200, 604_800, 2_592_000)
_TOP = 5
_REPEATED, _DELAY = "repeated ", "delay "


def report_join(
    impressions: DataFrame, clicks: DataFrame, conversions: DataFrame, day: Day, owners_known_from_us: int
) -> dict[str, Any]:
    """Returns the report described above.

    Args:
        impressions: the day's, with user_id, item_id, num_clicks and num_conversions.
        clicks: what `attribute_clicks` gave, of all days.
        conversions: what `attribute_conversions` gave, of all days.
        day: the day.
        owners_known_from_us: the impressions of clicks before it have not all been looked at.
    """
    has_click = F.col(CLICK_TIME_US).isNotNull()
    is_of_earlier = F.coalesce(F.col(CLICK_TIME_US) < owners_known_from_us, F.lit(False))
    found = _collect(
        {
            "impressions": _long(impressions.agg(*_impression_counts())),
            "clicks": _long(
                clicks.agg(*_event_counts(day, F.lit(False), F.col(OWNER_TIME_US), F.lit(False)))
            ),
            "conversions": _long(
                conversions.agg(*_event_counts(day, has_click, F.col(CLICK_TIME_US), is_of_earlier))
            ),
            "user_id": _top_keys(impressions, "user_id"),
            "item_id": _top_keys(impressions, "item_id"),
            "item_id of conversions": _top_keys(conversions.where(day.holds(F.col("time_us"))), "item_id"),
        }
    )
    counts, repeats = _split(found["impressions"], _REPEATED)
    of_clicks, click_delays = _split(found["clicks"], _DELAY)
    of_conversions, conversion_delays = _split(found["conversions"], _DELAY)
    return {
        "impressions": counts,
        "clicks": _with_rate(of_clicks),
        "conversions": _with_rate(of_conversions),
        "repeats": repeats,
        "delay_s": {
            kind: {name: count for name, count in delays.items() if count}
            for kind, delays in (("click", click_delays), ("conversion", conversion_delays))
        },
        "top_keys": {
            name: _with_shares(found[name], total)
            for name, total in (
                ("user_id", counts["total"]),
                ("item_id", counts["total"]),
                ("item_id of conversions", of_conversions["total"]),
            )
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


def _split(counts: dict[str, int], prefix: str) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the counts whose names don't begin with the prefix, and those that do, without it."""
    return (
        {name: count for name, count in counts.items() if not name.startswith(prefix)},
        {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)},
    )


def _impression_counts() -> list[Column]:
    def beyond_first(number: str) -> Column:
        return F.coalesce(F.sum(F.greatest(F.col(number) - 1, F.lit(0))), F.lit(0))

    return [
        F.count(F.lit(1)).alias("total"),
        F.count_if(F.col("num_clicks") > 0).alias("clicked"),
        F.count_if(F.col("num_conversions") > 0).alias("converted"),
        beyond_first("num_clicks").alias(f"{_REPEATED}clicks"),
        beyond_first("num_conversions").alias(f"{_REPEATED}conversions"),
    ]


def _event_counts(day: Day, has_cause: Column, cause_us: Column, is_of_earlier: Column) -> list[Column]:
    """Returns the counts of the day's events, and the delays of those that belong to its impressions."""
    is_of_day, is_matched = day.holds(F.col("time_us")), F.col(OWNER_ID).isNotNull() & ~is_of_earlier
    is_lost = is_of_day & ~is_matched & ~is_of_earlier
    belongs = day.holds(F.col(OWNER_TIME_US))
    seconds = (F.col("time_us") - cause_us) / SECOND_US
    ends = [float("-inf"), *DELAY_BINS_S, float("inf")]
    return [
        F.count_if(is_of_day).alias("total"),
        F.count_if(is_of_day & is_matched).alias("matched"),
        F.count_if(is_lost & ~has_cause).alias("orphans"),
        F.count_if(is_lost & has_cause).alias("of_orphan_clicks"),
        F.count_if(is_of_day & is_of_earlier).alias("of_earlier_clicks"),
        F.count_if(is_of_day & F.col(BEFORE_CAUSE)).alias("before_cause"),
        *(
            F.count_if(belongs & (seconds > after) & (seconds <= end)).alias(f"{_DELAY}{name}")
            for name, after, end in zip(delay_bins(), ends[:-1], ends[1:], strict=True)
        ),
    ]


def _with_rate(counts: dict[str, int]) -> dict[str, Any]:
    known = counts["total"] - counts["of_earlier_clicks"]
    rate = round(counts["matched"] / known, 6) if known else None
    return {**counts, "match_rate": rate}


def _top_keys(rows: DataFrame, key: str) -> DataFrame:
    if key not in rows.columns:
        return rows.groupBy(F.lit("").alias("key")).count().where("false")
    counts = rows.groupBy(F.col(key).alias("key")).count()
    return counts.orderBy(F.col("count").desc(), "key").limit(_TOP)


def _with_shares(counts: dict[str, int], total: int) -> list[list[Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[key, count, round(count / total, 6)] for key, count in ordered]
