"""Attributes events to impressions: a root task's directly, the others' by the event that caused them.

Impressions and events are canonical lines without rejects or duplicates (deduplication.py). Whether ids tell
or user and item follows from the columns that the logs have (`funnel.EventLink`). docs/events.md has the
rules with a picture; the total order of ties in short:

    impressions   (time, impression_id)
    events        (time, own id, id of the cause), those that the log has
"""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.funnel import EventLink
from esmm_spark.events.join.as_of import AT_US, LATEST, NEXT, join_as_of

# What attributed events have beside their own columns; null where they belong to nothing.
OWNER_ID, OWNER_TIME_US = "owner_impression_id", "owner_time_us"
CAUSE_TIME_US = "cause_time_us"
# When the first event of the chain happened: of a root task the event itself.
ROOT_TIME_US = "root_time_us"
# True where the cause is later than the event, at most a window: that which the log's ids name, or, of an
# event that belongs to nothing, one of the same user and item.
BEFORE_CAUSE = "before_cause"

_MICROSECONDS = 1_000_000
_CAUSE = "__cause"


def attribute_to_impressions(impressions: DataFrame, events: DataFrame, link: EventLink) -> DataFrame:
    """Returns the events of a root task with OWNER_ID, OWNER_TIME_US, CAUSE_TIME_US, BEFORE_CAUSE.

    With `impression_id`: the impression of that id at most a window away; of several (an id that two days
    have) the latest one up to the event, else the earliest one after it. Without: the latest (or first)
    impression of the same user and item in [event - window, event].

    Args:
        impressions: impression_id, user_id, item_id, time_us.
        events: time_us, and impression_id or user_id and item_id.
        link: the task's.

    Example:
        Impressions of user u and item i at 0 s (a) and 60 s (b), window 100 s: a click at 60 s or 160 s
        belongs to b, one at 59 s to a, one at 161 s to nothing.
    """
    owners = impressions.select(*link.matched_by, "time_us", F.col("impression_id").alias(OWNER_ID))
    owners = owners.withColumn(OWNER_TIME_US, F.col("time_us")).withColumn(CAUSE_TIME_US, F.col("time_us"))
    owners = owners.withColumn(ROOT_TIME_US, F.lit(None).cast("bigint"))
    found = _attribute(owners, events, link, [OWNER_ID], is_early_owned=link.is_by_id)
    return found.withColumn(ROOT_TIME_US, F.col("time_us"))


def attribute_to_causes(causes: DataFrame, events: DataFrame, cause: EventLink, link: EventLink) -> DataFrame:
    """Returns the events with CAUSE_TIME_US, OWNER_ID, OWNER_TIME_US, ROOT_TIME_US and BEFORE_CAUSE.

    The last (or first) event of the task given, of the id that is named, or of the same user and item, in
    [event - window, event]. CAUSE_TIME_US is null where there is none; OWNER_ID also where that has no
    impression.

    Args:
        causes: the attributed events of the task that this one is given.
        events: time_us, and the cause's id or user_id and item_id.
        cause: the link of that task.
        link: the events' own.
    """
    logged = [name for name in (cause.own_id, cause.cause_id) if name in causes.columns]
    owners = causes.select(
        *link.matched_by,
        "time_us",
        *(F.col(name).alias(f"tie_{name}") for name in logged),
        F.col("time_us").alias(CAUSE_TIME_US),
        OWNER_ID,
        OWNER_TIME_US,
        ROOT_TIME_US,
    )
    return _attribute(owners, events, link, [f"tie_{name}" for name in logged], is_early_owned=False)


def _attribute(
    owners: DataFrame, events: DataFrame, link: EventLink, ties: list[str], is_early_owned: bool
) -> DataFrame:
    """Returns the events with what they belong to; `is_early_owned`: also if that comes after them."""
    window_us = link.window_s * _MICROSECONDS
    payload = [CAUSE_TIME_US, OWNER_ID, OWNER_TIME_US, ROOT_TIME_US]
    is_last = link.is_by_id or not link.takes_first
    # The first of the window is the next one after what is just too early for it.
    at_us = F.col("time_us") if is_last else F.col("time_us") - (window_us + 1)
    found = join_as_of(events.withColumn(AT_US, at_us), owners, link.matched_by, ties, payload)
    time_us, next_us = F.col("time_us"), F.col(f"{NEXT}.{CAUSE_TIME_US}")
    is_after = time_us - F.col(f"{LATEST}.{CAUSE_TIME_US}") <= window_us if is_last else next_us <= time_us
    is_before = _is_not(is_after) & (next_us > time_us) & (next_us - time_us <= window_us)
    cause = F.when(is_after, F.col(LATEST if is_last else NEXT))
    if is_early_owned:
        cause = cause.when(is_before, F.col(NEXT))
    return _own(found, cause, is_before, payload)


def label_impressions(events: Mapping[str, DataFrame]) -> DataFrame:
    """Returns each impression that has an event: how many of each task, and when the first was.

        impression_id, time_us   the impression's
        num_<task>s              bigint
        <task>_time_us           bigint, of the first one; null where there is none

    Args:
        events: task -> its attributed events.
    """
    parts = [
        attributed.where(F.col(OWNER_ID).isNotNull()).select(
            F.col(OWNER_ID).alias("impression_id"),
            F.col(OWNER_TIME_US).alias("time_us"),
            *(
                (F.col("time_us") if other == task else F.lit(None).cast("bigint")).alias(f"__{other}")
                for other in events
            ),
        )
        for task, attributed in events.items()
    ]
    return (
        reduce(DataFrame.unionByName, parts)
        .groupBy("impression_id", F.col("time_us"))
        .agg(
            *(F.count(f"__{task}").alias(f"num_{task}s") for task in events),
            *(F.min(f"__{task}").alias(f"{task}_time_us") for task in events),
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
