"""As-of join: for each query the nearest events of the same key before and after a time.

A sort of both sides together and one running pass, so it costs the same whether a key has two events or a
fifth of them all: there is no pair that is looked at only to be thrown away, and a key of any size streams
through, spilling to disk. What comes after takes a second pass over the same shuffle, sorted the other way
round; Spark leaves out the pass whose column nobody reads.
"""

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

AT_US = "at_us"
LATEST, NEXT = "latest", "next"

_IS_QUERY, _QUERY, _TIE, _FOUND = "__is_query", "__query", "__tie", "__found"


def join_as_of(
    queries: DataFrame, events: DataFrame, keys: Sequence[str], ties: Sequence[str], payload: Sequence[str]
) -> DataFrame:
    """Returns the queries with `latest` and `next`: the `payload` of one event of the same keys, or null.

    `latest`: the last event with time_us <= at_us; `next`: the first one with time_us > at_us.

    Args:
        queries: `keys`, `at_us` bigint, any other columns; no key is null.
        events: `keys`, `time_us` bigint, `ties`, `payload`; no key is null.
        keys: the columns that must be equal, at least one.
        ties: string columns that order events of equal time; of several, `latest` takes the greatest one and
            `next` the smallest, bytewise.
        payload: what is wanted of the event.

    Example:
        Events of key k at 10, 20 and 30: a query of k at 20 finds 20 as `latest` and 30 as `next`, one at 9
        finds nothing as `latest` and 10 as `next`.
    """
    tie = F.struct(*(F.col(name) for name in ties)) if ties else F.struct(F.lit("").alias("none"))
    event_side = events.select(
        *keys,
        F.col("time_us").alias(AT_US),
        F.lit(0).alias(_IS_QUERY),
        tie.alias(_TIE),
        F.struct(*payload).alias(_FOUND),
        F.lit(None).cast(queries.schema).alias(_QUERY),
    )
    query_side = queries.select(
        *keys,
        AT_US,
        F.lit(1).alias(_IS_QUERY),
        F.lit(None).cast(event_side.schema[_TIE].dataType).alias(_TIE),
        F.lit(None).cast(event_side.schema[_FOUND].dataType).alias(_FOUND),
        F.struct(*(F.col(name) for name in queries.columns)).alias(_QUERY),
    )
    # Of one time, events come before queries: what is at the query's time is `latest`, not `next`.
    order = (AT_US, _IS_QUERY, _TIE)
    of_key = Window.partitionBy(*keys)
    before = of_key.orderBy(*(F.col(name).asc() for name in order))
    after = of_key.orderBy(*(F.col(name).desc() for name in order))
    return (
        event_side.unionByName(query_side)
        .withColumn(LATEST, F.last(_FOUND, ignorenulls=True).over(before.rowsBetween(*_SO_FAR)))
        .withColumn(NEXT, F.last(_FOUND, ignorenulls=True).over(after.rowsBetween(*_SO_FAR)))
        .where(F.col(_IS_QUERY) == 1)
        .select(f"{_QUERY}.*", LATEST, NEXT)
    )


_SO_FAR = (Window.unboundedPreceding, Window.currentRow)
