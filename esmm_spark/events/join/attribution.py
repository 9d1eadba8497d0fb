"""Which impression a click belongs to, and which click a conversion belongs to.

Impressions, clicks and conversions are canonical lines without rejects or duplicates (deduplication.py).
Whether ids tell or user and item follows from the columns: clicks with an `impression_id`, conversions with a
`click_id`. docs/events.md has the rules with a picture; the total order of ties in short:

    impressions   (time, impression_id)
    clicks        (time, click_id, impression_id), those that the log has
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.event_config import Attribution
from esmm_spark.events.join.as_of import AT_US, LATEST, NEXT, join_as_of

# What attributed clicks and conversions have beside their own columns; null where they belong to nothing.
OWNER_ID, OWNER_TIME_US = "owner_impression_id", "owner_time_us"
CLICK_TIME_US = "owner_click_time_us"
# True where the cause is later than the event, at most a window: that which the log's ids name, or, of an
# event that belongs to nothing, one of the same user and item.
BEFORE_CAUSE = "before_cause"

_MICROSECONDS = 1_000_000
_CAUSE = "__cause"


def attribute_clicks(impressions: DataFrame, clicks: DataFrame, attribution: Attribution) -> DataFrame:
    """Returns the clicks with OWNER_ID, OWNER_TIME_US and BEFORE_CAUSE.

    With `impression_id`: the impression of that id at most a window away; of several (an id that two days
    have) the latest one up to the click, else the earliest one after it. Without: the latest impression of
    the same user and item in [click - window, click].

    Args:
        impressions: impression_id, user_id, item_id, time_us.
        clicks: time_us, and impression_id or user_id and item_id.
        attribution: the windows.

    Example:
        Impressions of user u and item i at 0 s (a) and 60 s (b), window 100 s: a click at 60 s or 160 s
        belongs to b, one at 59 s to a, one at 161 s to nothing.
    """
    window_us = attribution.click_window_s * _MICROSECONDS
    by_id = "impression_id" in clicks.columns
    keys = ["impression_id"] if by_id else ["user_id", "item_id"]
    events = impressions.select(*keys, "time_us", F.col("impression_id").alias(OWNER_ID))
    events = events.withColumn(OWNER_TIME_US, F.col("time_us"))
    payload = [OWNER_ID, OWNER_TIME_US]
    found = join_as_of(clicks.withColumn(AT_US, F.col("time_us")), events, keys, [OWNER_ID], payload)
    is_after = F.col("time_us") - F.col(f"{LATEST}.{OWNER_TIME_US}") <= window_us
    is_before = _is_not(is_after) & (F.col(f"{NEXT}.{OWNER_TIME_US}") - F.col("time_us") <= window_us)
    cause = F.when(is_after, F.col(LATEST))
    if by_id:
        cause = cause.when(is_before, F.col(NEXT))
    return _own(found, cause, is_before, payload)


def attribute_conversions(clicks: DataFrame, conversions: DataFrame, attribution: Attribution) -> DataFrame:
    """Returns the conversions with CLICK_TIME_US, OWNER_ID, OWNER_TIME_US and BEFORE_CAUSE.

    The last (or first) click of the same click_id, or user and item, in [conversion - window, conversion].
    CLICK_TIME_US is null where there is no such click; OWNER_ID also where that click has no impression.

    Args:
        clicks: what `attribute_clicks` gave.
        conversions: time_us, and click_id or user_id and item_id.
        attribution: the windows, and which click.
    """
    window_us = attribution.conversion_window_s * _MICROSECONDS
    by_id = "click_id" in conversions.columns
    keys = ["click_id"] if by_id else ["user_id", "item_id"]
    payload = [CLICK_TIME_US, OWNER_ID, OWNER_TIME_US]
    logged = [name for name in ("click_id", "impression_id") if name in clicks.columns]
    events = clicks.select(
        *keys,
        "time_us",
        *(F.col(name).alias(f"tie_{name}") for name in logged),
        F.col("time_us").alias(CLICK_TIME_US),
        OWNER_ID,
        OWNER_TIME_US,
    )
    is_last = attribution.conversion_click == "last" or by_id
    # The first click of the window is the next one after what is just too early for it.
    at_us = F.col("time_us") if is_last else F.col("time_us") - (window_us + 1)
    ties = [f"tie_{name}" for name in logged]
    found = join_as_of(conversions.withColumn(AT_US, at_us), events, keys, ties, payload)
    time_us, next_us = F.col("time_us"), F.col(f"{NEXT}.{CLICK_TIME_US}")
    is_after = time_us - F.col(f"{LATEST}.{CLICK_TIME_US}") <= window_us if is_last else next_us <= time_us
    is_before = _is_not(is_after) & (next_us > time_us) & (next_us - time_us <= window_us)
    return _own(found, F.when(is_after, F.col(LATEST if is_last else NEXT)), is_before, payload)


def label_impressions(clicks: DataFrame, conversions: DataFrame) -> DataFrame:
    """Returns one row per clicked impression: how often it was clicked and converted, and when first.

        impression_id, time_us              the impression's
        num_clicks, num_conversions         bigint, at least 1 and 0
        click_time_us, conversion_time_us   bigint, of the first one; null where there is none

    Args:
        clicks: what `attribute_clicks` gave.
        conversions: what `attribute_conversions` gave.
    """
    nothing = F.lit(None).cast("bigint")
    is_owned = F.col(OWNER_ID).isNotNull()
    owner = (F.col(OWNER_ID).alias("impression_id"), F.col(OWNER_TIME_US).alias("time_us"))
    of_clicks = clicks.where(is_owned).select(
        *owner, F.col("time_us").alias("click_time_us"), nothing.alias("conversion_time_us")
    )
    of_conversions = conversions.where(is_owned).select(
        *owner, nothing.alias("click_time_us"), F.col("time_us").alias("conversion_time_us")
    )
    return (
        of_clicks.unionByName(of_conversions)
        .groupBy("impression_id", "time_us")
        .agg(
            F.count("click_time_us").alias("num_clicks"),
            F.count("conversion_time_us").alias("num_conversions"),
            F.min("click_time_us").alias("click_time_us"),
            F.min("conversion_time_us").alias("conversion_time_us"),
        )
    )


def _is_not(condition: Column) -> Column:
    return ~F.coalesce(condition, F.lit(False))


def _own(found: DataFrame, cause: Column, is_before: Column, payload: list[str]) -> DataFrame:
    """Returns `found` with the cause's payload as columns of its own."""
    return (
        found.withColumn(_CAUSE, cause)
        .withColumn(BEFORE_CAUSE, F.coalesce(is_before, F.lit(False)))
        .withColumns({name: F.col(f"{_CAUSE}.{name}") for name in payload})
        .drop(LATEST, NEXT, _CAUSE, AT_US)
    )
