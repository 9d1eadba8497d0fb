"""Attributes of a day's impressions to the features of its contexts and impressions.

A context has one set of features: those of its earliest impression of the day, by (time, impression_id). So
nothing in it comes from a time at or after any of its impressions.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from esmm_spark.event_config import Catalog, EventLogs, History
from esmm_spark.features import FeatureSpec
from esmm_spark.samples.catalog_join import join_catalog
from esmm_spark.samples.crosses import cross
from esmm_spark.samples.history import join_histories


class Featured(NamedTuple):
    """Contexts and impressions with all attributes as columns `@<name>`.

    Attributes:
        contexts: `context_key`, unique.
        impressions: `impression_id`, unique, `context_key`, and what else they came with.
    """

    contexts: DataFrame
    impressions: DataFrame


def add_features(
    impressions: DataFrame,
    catalogs: Sequence[tuple[Catalog, DataFrame]],
    events: Sequence[tuple[History, DataFrame]],
    logs: EventLogs,
    spec: FeatureSpec,
) -> Featured:
    """Returns contexts and impressions with all that the feature spec asks for.

    Args:
        impressions: one day's; impression_id, user_id, item_id, context_key, time_us, the log's attributes.
        catalogs: each with its accepted lines.
        events: each history with its events, as `history_events` gives them.
        logs: their config.
        spec: the feature spec; a history that is no field of it is made for contexts.
    """
    levels = {field.name: field.level for field in spec.fields}
    of_impressions = [pair for pair in events if levels.get(pair[0].field) == "impression"]
    of_contexts = [pair for pair in events if pair not in of_impressions]
    for catalog, lines in catalogs:
        impressions = join_catalog(impressions, lines, f"{catalog.key}_id", catalog.valid_from is not None)
    contexts = _first_of_context(impressions)
    if of_contexts:
        histories = join_histories(contexts, of_contexts, "context_key")
        contexts = contexts.join(histories, on="context_key", how="inner")
    if of_impressions:
        queries = impressions.withColumn("at_us", F.col("time_us"))
        histories = join_histories(queries, of_impressions, "impression_id")
        impressions = impressions.join(histories, on="impression_id", how="inner")
    crossed = {item.history for item in logs.crosses} & {history.field for history, _ in of_contexts}
    if crossed:
        needed = contexts.select("context_key", *(f"`@{name}`" for name in sorted(crossed)))
        impressions = impressions.join(needed, on="context_key", how="inner")
    crosses = {
        f"@{item.field}": cross(impressions, f"@{item.history}", f"@{item.value}") for item in logs.crosses
    }
    return Featured(contexts, impressions.withColumns(crosses))


def history_events(
    history: History, events: DataFrame, catalogs: Sequence[tuple[Catalog, DataFrame]]
) -> DataFrame:
    """Returns `user_id`, `time_us`, `value` of the events that a history counts.

    Args:
        history: its config.
        events: accepted clicks or conversions.
        catalogs: each with its accepted lines; where the log doesn't have the value itself, the item's at the
            event's time is taken.
    """
    column = f"@{history.value}"
    if column not in events.columns:
        for catalog, lines in catalogs:
            if catalog.key == "item" and history.value in catalog.features:
                narrow = lines.select("item_id", "valid_from_us", "valid_to_us", f"`{column}`")
                events = join_catalog(events, narrow, "item_id", catalog.valid_from is not None)
    value = F.col(f"`{column}`")
    if events.schema[column].dataType.typeName() == "map":
        value = F.map_keys(value)
    return events.select("user_id", "time_us", value.alias("value"))


def _first_of_context(impressions: DataFrame) -> DataFrame:
    attributes = [f"`{name}`" for name in impressions.columns if name.startswith("@")]
    number = F.row_number().over(Window.partitionBy("context_key").orderBy("time_us", "impression_id"))
    return (
        impressions.select("context_key", "user_id", "time_us", "impression_id", *attributes)
        .withColumn("__number", number)
        .where(F.col("__number") == 1)
        .select("context_key", "user_id", F.col("time_us").alias("at_us"), *attributes)
    )
