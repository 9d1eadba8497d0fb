"""Takes events back that another log reverses: refunds of conversions.

An event is taken back by a reversal with its id in [event, event + window]. It is then as if it had not been:
it labels no impression and causes no event. Histories count it all the same, since before the reversal
everybody saw it.
"""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.funnel import Reversal

IS_MATCHED = "is_matched"

_REVERSED_ID, _REVERSED_US, _EVENT_US = "__reversed_id", "__reversed_us", "__event_us"
_SECOND_US = 1_000_000


def without_reversed(events: DataFrame, reversals: DataFrame, reversal: Reversal) -> DataFrame:
    """Returns the events that no reversal takes back.

    Args:
        events: `time_us` and their own id.
        reversals: `time_us` and that id.
        reversal: the log of the latter.

    Example:
        Window 10 s: an event at 5 s is taken back by reversals of its id from 5 s to 15 s.
    """
    by = reversals.select(
        F.col(reversal.link.own_id).alias(_REVERSED_ID), F.col("time_us").alias(_REVERSED_US)
    )
    is_taken = events[reversal.link.own_id] == by[_REVERSED_ID]
    is_taken &= _is_in_window(events["time_us"], by[_REVERSED_US], reversal)
    return events.join(by, is_taken, how="left_anti")


def reversed_events(lines: Mapping[str, DataFrame], reversal: Reversal) -> DataFrame:
    """Returns `time_us` of each reversal, repeats once, and IS_MATCHED, whether it takes an event back.

    Args:
        lines: log -> its accepted events, with ids and times.
        reversal: the log of the reversals.
    """
    own_id = reversal.link.own_id
    events = lines[reversal.link.log_name].select(
        F.col(own_id).alias(_REVERSED_ID), F.col("time_us").alias(_EVENT_US)
    )
    given = lines[reversal.log_name].select(own_id, "time_us")
    is_of = given[own_id] == events[_REVERSED_ID]
    is_of &= _is_in_window(events[_EVENT_US], given["time_us"], reversal)
    found = given.join(events, is_of, how="left").groupBy(own_id, "time_us")
    return found.agg(F.count(_EVENT_US).alias("found")).select(
        "time_us", (F.col("found") > 0).alias(IS_MATCHED)
    )


def _is_in_window(event_us: Column, reversal_us: Column, reversal: Reversal) -> Column:
    return reversal_us.between(event_us, event_us + reversal.log.window_s * _SECOND_US)
