"""History features: what a user clicked or converted on, strictly before an impression minus a lag.

Queries (who, when) and events are shuffled by user, sorted by time, and stream through one pass per partition
that remembers, of one user, the newest `last_n` values of each history. So memory doesn't grow with a user's
log, and a user who makes a fifth of all impressions costs what five others with as many would.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, MapType, StringType, StructField, StructType

from esmm_spark.contracts.events.history import History

_DAY_US = 86_400_000_000
_SECOND_US = 1_000_000
_QUERY, _EVENT = 0, 1
_MAP, _LIST = pa.map_(pa.string(), pa.float64()), pa.list_(pa.string())


def join_histories(
    queries: DataFrame,
    events: DataFrame,
    histories: Sequence[History],
    id_column: str,
    unpooled: Collection[str] = (),
) -> DataFrame:
    """Returns `id_column` and a column `@<field>` per history: map<string, double> value -> weight, or null.

    A history of `unpooled` is array<string> instead: the same values one by one, the newest first, repeated
    as often as they happened.

    The weight is ln(1 + count). The count is that of the value among the newest `last_n` values of the user
    in [at - lag - window, at - lag), an event counting 1, or 2^(-age / half-life) where a half-life is set,
    its age being at - lag - its time. Values of one time are ordered by their bytes.

    Args:
        queries: `id_column` string, unique; `user_id`; `at_us`.
        events: `user_id`, `time_us`, `history`: its place in `histories`, `value` string; none is null.
        histories: what is counted.
        id_column: see above.
        unpooled: the fields whose histories are lists.

    Example:
        Clicks of user u: a at 10, b at 20, a at 30, lag 0: a query of u at 30 gets {a: ln 2, b: ln 2}, one at
        31 gets {a: ln 3, b: ln 2}; un-pooled [b, a] and [a, b, a].
    """
    asked = queries.select(
        "user_id",
        "at_us",
        F.lit(_QUERY).alias("kind"),
        F.lit(0).alias("history"),
        F.col(id_column).alias("text"),
    )
    lags_us = F.array(*(F.lit(history.lag_s * _SECOND_US) for history in histories))
    known = events.select(
        "user_id",
        (F.col("time_us") + F.get(lags_us, F.col("history"))).alias("at_us"),
        F.lit(_EVENT).alias("kind"),
        "history",
        F.col("value").alias("text"),
    )
    both = asked.unionByName(known)
    # An event at the very time of the query is not before it: queries come first.
    ordered = both.repartition("user_id").sortWithinPartitions("user_id", "at_us", "kind", "history", "text")
    listed = [history.field in unpooled for history in histories]
    as_map, as_list = MapType(StringType(), DoubleType()), ArrayType(StringType())
    columns = [
        StructField(f"@{history.field}", as_list if is_list else as_map)
        for history, is_list in zip(histories, listed, strict=True)
    ]
    schema = StructType([StructField(id_column, StringType()), *columns])

    def stream(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return count_histories(batches, histories, schema.names, listed)

    return ordered.mapInArrow(stream, schema)


def count_histories(
    batches: Iterable[pa.RecordBatch],
    histories: Sequence[History],
    names: Sequence[str],
    listed: Sequence[bool],
) -> Iterator[pa.RecordBatch]:
    """Yields the queries among sorted queries and events, with the map or the list of each history.

    Args:
        batches: user_id, at_us, kind, history, text, sorted by all of them.
        histories: by the number in `history`.
        names: the columns to yield: the query's id, then one per history.
        listed: of each history, whether its values come one by one.
    """
    user: str | None = None
    states = [_Values(history) for history in histories]
    kinds = [_LIST if is_list else _MAP for is_list in listed]
    for batch in batches:
        identifiers: list[str] = []
        of_histories: list[list[list[Any] | None]] = [[] for _ in histories]
        columns = [batch.column(name).to_pylist() for name in ("user_id", "at_us", "kind", "history", "text")]
        for key, at_us, kind, history, text in zip(*columns, strict=True):
            if key != user:
                user = key
                for state in states:
                    state.clear()
            if kind == _EVENT:
                states[history].add(at_us, text)
                continue
            identifiers.append(text)
            for state, found, is_list in zip(states, of_histories, listed, strict=True):
                values = state.newest_first(at_us) if is_list else state.weights(at_us)
                found.append(values or None)
        if identifiers:
            arrays = [pa.array(found, kind) for found, kind in zip(of_histories, kinds, strict=True)]
            yield pa.record_batch([pa.array(identifiers, pa.string()), *arrays], names=list(names))


class _Values:
    """The newest values of one user in one history."""

    def __init__(self, history: History) -> None:
        self._last_n = history.last_n
        self._window_us = history.window_days * _DAY_US
        self._half_life_us = history.half_life_days and history.half_life_days * _DAY_US
        self._newest: deque[tuple[int, str]] = deque()
        self._counts: dict[str, int] = {}
        self._cached: list[tuple[str, float]] | None = None

    def clear(self) -> None:
        self._newest.clear()
        self._counts.clear()
        self._cached = None

    def add(self, known_us: int, value: str) -> None:
        """Adds a value that is known from `known_us`, event time plus lag, on."""
        self._newest.append((known_us, value))
        self._counts[value] = self._counts.get(value, 0) + 1
        self._cached = None
        if len(self._newest) > self._last_n:
            self._drop_oldest()

    def weights(self, at_us: int) -> list[tuple[str, float]]:
        """Returns (value, ln(1 + count)) at a time, sorted by value."""
        self._forget(at_us)
        if self._half_life_us:
            return self._decayed(at_us, self._half_life_us)
        if self._cached is None:
            self._cached = [(value, math.log1p(count)) for value, count in sorted(self._counts.items())]
        return self._cached

    def newest_first(self, at_us: int) -> list[str]:
        """Returns the values at a time one by one, of one time the bytewise last one first."""
        self._forget(at_us)
        return [value for _, value in reversed(self._newest)]

    def _forget(self, at_us: int) -> None:
        """Drops what is older than the window at a time."""
        while self._newest and self._newest[0][0] < at_us - self._window_us:
            self._drop_oldest()

    def _decayed(self, at_us: int, half_life_us: float) -> list[tuple[str, float]]:
        # Summed anew for each query, oldest first: a running sum's rounding would depend on other queries.
        counts: dict[str, float] = {}
        for known_us, value in self._newest:
            counts[value] = counts.get(value, 0.0) + 2.0 ** ((known_us - at_us) / half_life_us)
        return [(value, math.log1p(count)) for value, count in sorted(counts.items())]

    def _drop_oldest(self) -> None:
        _, value = self._newest.popleft()
        self._counts[value] -= 1
        if self._counts[value] == 0:
            del self._counts[value]
        self._cached = None


def history_range_us(histories: Iterable[History], first_us: int) -> int:
    """Returns the earliest event time that a history of an impression at `first_us` or later may count."""
    return reduce(
        min,
        (first_us - history.window_days * _DAY_US - history.lag_s * _SECOND_US for history in histories),
        first_us,
    )
