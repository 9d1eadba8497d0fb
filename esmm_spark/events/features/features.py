"""Features of contexts and impressions, from the attributes of a day's impressions.

A context has one set of features: those of its earliest impression of the day, by (time, impression_id). So
nothing in it comes from a time at or after any of its impressions.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from esmm_spark.contracts.event_config import EventLogs
from esmm_spark.contracts.events.catalog import Catalog
from esmm_spark.contracts.events.history import History
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.events.features.catalogs import join_catalog
from esmm_spark.events.features.crosses import cross
from esmm_spark.events.features.history import join_histories

# Whether a catalog has an entry of an impression, by the catalog's number.
FOUND = "found_in_catalog_"


class Featured(NamedTuple):
    """Contexts and impressions with all attributes as columns `@<name>`.

    Attributes:
        contexts: `context_key`, unique, and FOUND of each catalog, of the first impression.
        impressions: `impression_id`, unique, `context_key`, FOUND of each catalog, what else they came with.
    """

    contexts: DataFrame
    impressions: DataFrame


def add_features(
    impressions: DataFrame,
    catalogs: Sequence[tuple[Catalog, DataFrame]],
    events: Mapping[str, DataFrame],
    logs: EventLogs,
    spec: FeatureSpec,
) -> Featured:
    """Returns contexts and impressions with all that the feature spec asks for.

    Args:
        impressions: one day's; impression_id, user_id, item_id, context_key, time_us, the log's attributes.
        catalogs: each with its accepted lines.
        events: log -> its accepted events, of the logs that histories count.
        logs: their config.
        spec: the feature spec; a history that is no field of it is made for contexts.
    """
    levels = {field.name: field.level for field in spec.fields}
    of_impressions = [item for item in logs.history if levels.get(item.field) == "impression"]
    of_contexts = [item for item in logs.history if item not in of_impressions]
    unpooled = {field.name for field in spec.sequence_fields}
    for number, (catalog, lines) in enumerate(catalogs):
        key, found = f"{catalog.key}_id", f"{FOUND}{number}"
        impressions = join_catalog(impressions, lines, key, catalog.is_versioned, catalog.defaults, found)
    contexts = _first_of_context(impressions)
    if of_contexts:
        past = history_events(of_contexts, events, catalogs)
        histories = join_histories(contexts, past, of_contexts, "context_key", unpooled)
        contexts = contexts.join(histories, on="context_key", how="inner")
    if of_impressions:
        queries = impressions.withColumn("at_us", F.col("time_us"))
        past = history_events(of_impressions, events, catalogs)
        histories = join_histories(queries, past, of_impressions, "impression_id")
        impressions = impressions.join(histories, on="impression_id", how="inner")
    crossed = {item.history for item in logs.crosses} & {history.field for history in of_contexts}
    if crossed:
        needed = contexts.select("context_key", *(f"`@{name}`" for name in sorted(crossed)))
        impressions = impressions.join(needed, on="context_key", how="inner")
    crosses = {
        f"@{item.field}": cross(impressions, f"@{item.history}", f"@{item.value}") for item in logs.crosses
    }
    return Featured(contexts, impressions.withColumns(crosses))


def history_events(
    histories: Sequence[History],
    events: Mapping[str, DataFrame],
    catalogs: Sequence[tuple[Catalog, DataFrame]],
) -> DataFrame:
    """Returns what the histories count: `user_id`, `time_us`, `history` (its place in `histories`), `value`.

    Args:
        histories: at least one.
        events: log -> its accepted events.
        catalogs: each with its accepted lines; where a log doesn't have a value itself, the item's at the
            event's time is taken.
    """
    parts = []
    for log in dict.fromkeys(history.of for history in histories):
        numbered = [(number, item.value) for number, item in enumerate(histories) if item.of == log]
        described = _described(events[log], {value for _, value in numbered}, catalogs)
        # One pass over the log for all of its histories.
        counted = F.array(
            *(
                F.struct(F.lit(number).alias("history"), _values(described, value).alias("values"))
                for number, value in numbered
            )
        )
        parts.append(
            described.select("user_id", "time_us", F.inline(counted))
            .select("user_id", "time_us", "history", F.explode("values").alias("value"))
            .where("user_id is not null and value is not null")
        )
    return reduce(DataFrame.unionByName, parts)


def _described(
    events: DataFrame, values: set[str], catalogs: Sequence[tuple[Catalog, DataFrame]]
) -> DataFrame:
    """Returns the events with those of the attributes that they lack and an item catalog has."""
    for catalog, lines in catalogs:
        lacking = [name for name in catalog.features if name in values and f"@{name}" not in events.columns]
        if catalog.key == "item" and lacking:
            names = [f"`@{name}`" for name in lacking]
            narrow = lines.select("item_id", "valid_from_us", "valid_to_us", *names)
            events = join_catalog(events, narrow, "item_id", catalog.is_versioned, catalog.defaults)
    return events


def _values(events: DataFrame, name: str) -> Column:
    """Returns an attribute as array<string>: the keys of a map, one value alone."""
    value = F.col(f"`@{name}`")
    kind = events.schema[f"@{name}"].dataType.typeName()
    if kind == "map":
        return F.map_keys(value)
    return value if kind == "array" else F.array(value)


def _first_of_context(impressions: DataFrame) -> DataFrame:
    attributes = [f"`{name}`" for name in impressions.columns if name.startswith(("@", FOUND))]
    number = F.row_number().over(Window.partitionBy("context_key").orderBy("time_us", "impression_id"))
    return (
        impressions.select("context_key", "user_id", "time_us", "impression_id", *attributes)
        .withColumn("__number", number)
        .where(F.col("__number") == 1)
        .select("context_key", "user_id", F.col("time_us").alias("at_us"), *attributes)
    )
