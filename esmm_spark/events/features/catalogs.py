"""Point-in-time join of attributes of items and users to a day's impressions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, LongType, StringType

from esmm_spark.events.features.validity import make_disjoint
from esmm_spark.reading.values import text_value

_TYPES: Mapping[type, DataType] = {str: StringType(), int: LongType(), float: DoubleType()}
_FROM, _TO = "__valid_from_us", "__valid_to_us"
_CATALOG_KEY = "__catalog_key"


def join_catalog(
    asked: DataFrame,
    catalog: DataFrame,
    key: str,
    is_versioned: bool,
    defaults: Mapping[str, str | int | float] = MappingProxyType({}),
    found: str | None = None,
) -> DataFrame:
    """Returns `asked` with the catalog's attributes, null where it has no entry of that key at that time.

    An entry holds in [valid_from, valid_to); without valid_to until the key's next later valid_from. Of
    several that hold, the one with the latest valid_from is taken; of several of these the first by a hash of
    its content.

    Args:
        asked: `key`, `time_us`, any other columns.
        catalog: accepted lines of `read_catalog`.
        key: `item_id` or `user_id`.
        is_versioned: whether entries have times; else each holds always.
        defaults: attribute -> its value where no entry holds.
        found: a column to be added, whether an entry holds.

    Example:
        Item i has brand x in [10, 40) and brand y in [20, 30): asked of i at 9 it gives null, at 10 and 19
        x, at 20 y, at 30 x again.
    """
    attributes = [name for name in catalog.columns if name.startswith("@")]
    versions = (
        _disjoint(catalog, key, attributes) if is_versioned else _first_entries(catalog, key, attributes)
    )
    condition = asked[key] == versions[_CATALOG_KEY]
    if is_versioned:
        condition &= (asked["time_us"] >= versions[_FROM]) & (asked["time_us"] < versions[_TO])
    joined = asked.join(versions, condition, how="left")
    is_found = F.col(_CATALOG_KEY).isNotNull()
    for name, value in defaults.items():
        column = f"@{name}"
        if column in attributes:
            default = _as_attribute(value, joined.schema[column].dataType.typeName())
            joined = joined.withColumn(column, F.when(is_found, F.col(f"`{column}`")).otherwise(default))
    if found is not None:
        joined = joined.withColumn(found, is_found)
    return joined.drop(_CATALOG_KEY, _FROM, _TO)


def _as_attribute(value: str | int | float, kind: str) -> Column:
    """Returns a value as an attribute of a type: its text, the one item of a list, or with the weight 1.

    Null of text that is empty, as it is in an entry.
    """
    text = text_value(F.lit(value), _TYPES[type(value)])
    if kind == "map":
        return F.when(text.isNotNull(), F.create_map(text, F.lit(1.0)))
    return F.when(text.isNotNull(), F.array(text)) if kind == "array" else text


def _first_entries(catalog: DataFrame, key: str, attributes: Sequence[str]) -> DataFrame:
    """Returns one entry per key."""
    rank = F.row_number().over(Window.partitionBy(key).orderBy(_content_hash(catalog, attributes)))
    chosen = catalog.withColumn("__rank", rank).where(F.col("__rank") == 1)
    return chosen.select(F.col(key).alias(_CATALOG_KEY), *(F.col(f"`{name}`") for name in attributes))


def _disjoint(catalog: DataFrame, key: str, attributes: Sequence[str]) -> DataFrame:
    """Returns the catalog with entries of which at most one of a key holds at a time."""
    versions = catalog.select(
        F.col(key).alias(_CATALOG_KEY),
        F.col("valid_from_us").alias(_FROM),
        F.col("valid_to_us").alias(_TO),
        *(F.col(f"`{name}`") for name in attributes),
    )

    def split(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return make_disjoint(batches, _CATALOG_KEY, _FROM, _TO)

    # The last of those that begin at one time holds: the first by its hash.
    content_hash = _content_hash(versions, attributes).alias("__hash")
    ordered = versions.select("*", content_hash).repartition(_CATALOG_KEY)
    ordered = ordered.sortWithinPartitions(_CATALOG_KEY, _FROM, F.col("__hash").desc()).drop("__hash")
    return ordered.mapInArrow(split, versions.schema)


def _content_hash(catalog: DataFrame, attributes: Sequence[str]) -> Column:
    return F.xxhash64(*(_hashable(catalog, name) for name in attributes))


def _hashable(frame: DataFrame, name: str) -> Column:
    """Returns an expression that has a hash: maps have none, their entries do."""
    if frame.schema[name].dataType.typeName() == "map":
        return F.array_sort(F.map_entries(f"`{name}`"))
    return F.col(f"`{name}`")
