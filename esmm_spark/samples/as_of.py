"""The one join of events: for each query the nearest event of the same key on one side of a time.

A sort of both sides together and one running pass, so it costs the same whether a key has two rows or a fifth
of them all: there is no pair of rows that is looked at only to be thrown away, and a key of any size streams
through, spilling to disk.
"""

from collections.abc import Sequence
from typing import Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

AT_US = "at_us"
FOUND = "found"

_IS_QUERY, _QUERY, _TIE = "__is_query", "__query", "__tie"


def join_as_of(
    queries: DataFrame,
    events: DataFrame,
    keys: Sequence[str],
    ties: Sequence[str],
    payload: Sequence[str],
    side: Literal["latest", "earliest"],
) -> DataFrame:
    """Returns the queries with `found`: the struct of `payload` of one event of the same keys, or null.

    `latest`: the last event with time_us <= at_us; `earliest`: the first one with time_us >= at_us.

    Args:
        queries: `keys`, `at_us` bigint, any other columns; no key is null.
        events: `keys`, `time_us` bigint, `ties`, `payload`; no key is null.
        keys: the columns that must be equal, at least one.
        ties: string columns that order events of equal time; of several, `latest` takes the greatest one and
            `earliest` the smallest, bytewise.
        payload: what is wanted of the event.
        side: see above.

    Example:
        Events of key k at 10, 20 and 30: a query of k at 20 finds the event at 20 on either side, one at 21
        finds 20 as `latest` and 30 as `earliest`, one at 9 finds nothing as `latest`.
    """
    tie = F.struct(*(F.col(name) for name in ties)) if ties else F.struct(F.lit("").alias("none"))
    event_rows = events.select(
        *keys,
        F.col("time_us").alias(AT_US),
        F.lit(0).alias(_IS_QUERY),
        tie.alias(_TIE),
        F.struct(*payload).alias(FOUND),
        F.lit(None).cast(queries.schema).alias(_QUERY),
    )
    query_rows = queries.select(
        *keys,
        AT_US,
        F.lit(1).alias(_IS_QUERY),
        F.lit(None).cast(event_rows.schema[_TIE].dataType).alias(_TIE),
        F.lit(None).cast(event_rows.schema[FOUND].dataType).alias(FOUND),
        F.struct(*(F.col(name) for name in queries.columns)).alias(_QUERY),
    )
    latest = side == "latest"
    order = [
        F.col(AT_US).asc() if latest else F.col(AT_US).desc(),
        F.col(_IS_QUERY).asc(),
        F.col(_TIE).asc() if latest else F.col(_TIE).desc(),
    ]
    so_far = Window.partitionBy(*keys).orderBy(*order).rowsBetween(Window.unboundedPreceding, 0)
    return (
        event_rows.unionByName(query_rows)
        .withColumn(FOUND, F.last(FOUND, ignorenulls=True).over(so_far))
        .where(F.col(_IS_QUERY) == 1)
        .select(f"{_QUERY}.*", FOUND)
    )
