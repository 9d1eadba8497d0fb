"""Attributes of items and users, as they were at the time of the row that they are joined to."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

_FROM, _TO = "__valid_from_us", "__valid_to_us"
_CATALOG_KEY = "__catalog_key"


def join_catalog(rows: DataFrame, catalog: DataFrame, key: str, is_versioned: bool) -> DataFrame:
    """Returns `rows` with the catalog's attributes, null where it has no row of that key at that time.

    A catalog row holds in [valid_from, valid_to), and never longer than to the key's next valid_from: so at
    most one holds. Of several with one key and valid_from, the first by a hash of its content is taken.

    Args:
        rows: `key`, `time_us`, any other columns.
        catalog: accepted lines of `read_catalog`.
        key: `item_id` or `user_id`.
        is_versioned: whether rows have times; else each holds always.

    Example:
        Item i has brand x from 10 and brand y from 20: a row of i at 9 gets null, at 10 and 19 x, at 20 y.
    """
    attributes = [name for name in catalog.columns if name.startswith("@")]
    versions = _disjoint(catalog, key, attributes)
    condition = rows[key] == versions[_CATALOG_KEY]
    if is_versioned:
        is_begun = rows["time_us"] >= versions[_FROM]
        condition &= is_begun & (rows["time_us"] < F.coalesce(versions[_TO], F.lit(2**62)))
    return rows.join(versions, condition, how="left").drop(_CATALOG_KEY, _FROM, _TO)


def _disjoint(catalog: DataFrame, key: str, attributes: Sequence[str]) -> DataFrame:
    """Returns the catalog with one row per key and valid_from, none of which reaches into the next."""
    rank = F.row_number().over(
        Window.partitionBy(key, "valid_from_us").orderBy(
            F.xxhash64(*(_hashable(catalog, name) for name in attributes))
        )
    )
    following = F.lead("valid_from_us").over(Window.partitionBy(key).orderBy("valid_from_us"))
    return (
        catalog.withColumn("__rank", rank)
        .where(F.col("__rank") == 1)
        .select(
            F.col(key).alias(_CATALOG_KEY),
            F.col("valid_from_us").alias(_FROM),
            F.least(F.col("valid_to_us"), following).alias(_TO),
            *(F.col(f"`{name}`") for name in attributes),
        )
    )


def _hashable(frame: DataFrame, name: str) -> Column:
    """Returns an expression that has a hash: maps have none, their entries do."""
    if frame.schema[name].dataType.typeName() == "map":
        return F.array_sort(F.map_entries(f"`{name}`"))
    return F.col(f"`{name}`")
