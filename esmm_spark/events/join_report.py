"""Quality figures of a day's join: match rates, orphans, repeats, clock skew, delays, skewed keys.

impressions  how many there are, how many have an event of each task: `with_clicks`
clicks ...   of each log, events of the day: how many, matched to an impression, orphans, before their cause;
             of_orphan_causes: what caused them has no impression itself
             of_earlier_causes: what caused them is so old that its impression isn't looked for; they have no
             part in the match rate
reversals    log -> how many of the day take events back, and how many have found one: `total`, `matched`
repeats      events of each log beyond the first one of an impression
delay_s      {"clicks": {"<= 60": 12, ...}, ...}: of what belongs to the day's impressions, since its cause
top_keys     {"user_id": [[key, lines, share], ...], ...}: the most frequent keys
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.funnel import IMPRESSIONS, EventLink, Funnel
from esmm_spark.events.join.attribution import (
    BEFORE_CAUSE,
    CAUSE_TIME_US,
    OWNER_ID,
    OWNER_TIME_US,
    ROOT_TIME_US,
)
from esmm_spark.events.join.labels import Labelled
from esmm_spark.events.join.reversals import IS_MATCHED
from esmm_spark.events.join.sources import own_event_range
from esmm_spark.events.reading.day import SECOND_US, Day

# Upper ends of the delay histogram's bins, in seconds; the last bin is open.
DELAY_BINS_S = (0, 1, 10, 60, 600, 3_600, 21_600, 86_400, 259_200, 604_800, 2_592_000)
_TOP = 5
_REPEATED, _DELAY, _REVERSAL = "repeated ", "delay ", "reversal "


def report_join(labelled: Labelled, funnel: Funnel, day: Day) -> dict[str, Any]:
    """Returns the report described above.

    Args:
        labelled: the day's impressions, and the events of all days.
        funnel: the logs' config.
        day: the day.
    """
    impressions, links = labelled.impressions, funnel.links
    last = links[-1]
    of_last = labelled.events[last.task].where(day.holds(F.col("time_us")))
    found = _collect(
        {
            IMPRESSIONS: _long(impressions.agg(*_impression_counts(links))),
            **{
                link.log_name: _long(labelled.events[link.task].agg(*_event_counts(link, funnel, day)))
                for link in links
            },
            **{
                _REVERSAL + name: _long(reversals.agg(*_reversal_counts(day)))
                for name, reversals in labelled.reversals.items()
            },
            "user_id": _top_keys(impressions, "user_id"),
            "item_id": _top_keys(impressions, "item_id"),
            f"item_id of {last.log_name}": _top_keys(of_last, "item_id"),
        }
    )
    counts, repeats = _split(found[IMPRESSIONS], _REPEATED)
    split = {link.log_name: _split(found[link.log_name], _DELAY) for link in links}
    totals = {
        "user_id": counts["total"],
        "item_id": counts["total"],
        f"item_id of {last.log_name}": split[last.log_name][0]["total"],
    }
    return {
        IMPRESSIONS: counts,
        **{name: _with_rate(of_log) for name, (of_log, _) in split.items()},
        "reversals": {name: found[_REVERSAL + name] for name in labelled.reversals},
        "repeats": repeats,
        "delay_s": {
            name: {bin_name: count for bin_name, count in delays.items() if count}
            for name, (_, delays) in split.items()
        },
        "top_keys": {name: _with_shares(found[name], total) for name, total in totals.items()},
    }


def delay_bins() -> Sequence[str]:
    """Returns the names of the histogram's bins, in order."""
    return [*(f"<= {end}" for end in DELAY_BINS_S), f"> {DELAY_BINS_S[-1]}"]


def _collect(parts: dict[str, DataFrame]) -> dict[str, dict[str, int]]:
    """Returns name -> key -> count of frames of (key, count): one job for all of them."""
    named = [frame.select(F.lit(name).alias("name"), "key", "count") for name, frame in parts.items()]
    found: dict[str, dict[str, int]] = {name: {} for name in parts}
    for count in reduce(DataFrame.unionByName, named).collect():
        found[count.name][count.key] = int(count["count"])
    return found


def _long(totals: DataFrame) -> DataFrame:
    """Returns totals in one line as (key, count)."""
    columns = [F.col(name).cast("bigint") for name in totals.columns]
    return totals.select(*columns).unpivot([], [*totals.columns], "key", "count")


def _split(counts: dict[str, int], prefix: str) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the counts whose names don't begin with the prefix, and those that do, without it."""
    return (
        {name: count for name, count in counts.items() if not name.startswith(prefix)},
        {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)},
    )


def _impression_counts(links: Sequence[EventLink]) -> list[Column]:
    counts = [F.count(F.lit(1)).alias("total")]
    for link in links:
        number = F.col(f"num_{link.task}s")
        beyond_first = F.coalesce(F.sum(F.greatest(number - 1, F.lit(0))), F.lit(0))
        counts += [
            F.count_if(number > 0).alias(f"with_{link.log_name}"),
            beyond_first.alias(f"{_REPEATED}{link.log_name}"),
        ]
    return counts


def _event_counts(link: EventLink, funnel: Funnel, day: Day) -> list[Column]:
    """Returns the counts of the day's events, and the delays of those that belong to its impressions."""
    cause_us, has_cause, is_of_earlier = F.col(CAUSE_TIME_US), F.lit(False), F.lit(False)
    if link.cause_task is not None:
        # The impressions of causes before it have not all been looked at.
        known_from_us, _ = own_event_range(link, funnel, day)
        has_cause = cause_us.isNotNull()
        is_of_earlier = F.coalesce(F.least(cause_us, ROOT_TIME_US) < known_from_us, F.lit(False))
    is_of_day, is_matched = day.holds(F.col("time_us")), F.col(OWNER_ID).isNotNull() & ~is_of_earlier
    is_lost = is_of_day & ~is_matched & ~is_of_earlier
    belongs = day.holds(F.col(OWNER_TIME_US))
    seconds = (F.col("time_us") - cause_us) / SECOND_US
    ends = [float("-inf"), *DELAY_BINS_S, float("inf")]
    return [
        F.count_if(is_of_day).alias("total"),
        F.count_if(is_of_day & is_matched).alias("matched"),
        F.count_if(is_lost & ~has_cause).alias("orphans"),
        F.count_if(is_lost & has_cause).alias("of_orphan_causes"),
        F.count_if(is_of_day & is_of_earlier).alias("of_earlier_causes"),
        F.count_if(is_of_day & F.col(BEFORE_CAUSE)).alias("before_cause"),
        *(
            F.count_if(belongs & (seconds > after) & (seconds <= end)).alias(f"{_DELAY}{name}")
            for name, after, end in zip(delay_bins(), ends[:-1], ends[1:], strict=True)
        ),
    ]


def _reversal_counts(day: Day) -> list[Column]:
    is_of_day = day.holds(F.col("time_us"))
    return [
        F.count_if(is_of_day).alias("total"),
        F.count_if(is_of_day & F.col(IS_MATCHED)).alias("matched"),
    ]


def _with_rate(counts: dict[str, int]) -> dict[str, Any]:
    known = counts["total"] - counts["of_earlier_causes"]
    rate = round(counts["matched"] / known, 6) if known else None
    return {**counts, "match_rate": rate}


def _top_keys(lines: DataFrame, key: str) -> DataFrame:
    if key not in lines.columns:
        return lines.groupBy(F.lit("").alias("key")).count().where("false")
    counts = lines.groupBy(F.col(key).alias("key")).count()
    return counts.orderBy(F.col("count").desc(), "key").limit(_TOP)


def _with_shares(counts: dict[str, int], total: int) -> list[list[Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[key, count, round(count / total, 6)] for key, count in ordered]
