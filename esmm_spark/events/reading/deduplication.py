"""Deduplicates events: of equal ones the same line is kept, whatever the order of the log."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

DUPLICATE = "duplicate"

_RANK = "__rank"
_DAY_US = 86_400_000_000


def day_number(time_us: Column) -> Column:
    """Returns the number of a time's UTC day, counted from 1970-01-01."""
    return F.floor(time_us / _DAY_US).cast("int")


def reject_duplicates(lines: DataFrame, id_column: str) -> DataFrame:
    """Returns the lines, those that repeat an id of the same UTC day with the reason `duplicate_<event>`.

    Kept is the first by (time, hash of the ids, hash of all columns). Only a day is looked at, so that a
    day's partition follows from the days around it and not from the whole log.

    Args:
        lines: canonical lines; those that have a reason already are left as they are.
        id_column: `impression_id`, `click_id` or `conversion_id`.
    """
    content = [name for name in lines.columns if name not in ("folder_day", "reason", "line")]
    # Maps have no hash: their entries do.
    maps = [name for name in content if lines.schema[name].dataType.typeName() == "map"]
    hashed = [
        F.array_sort(F.map_entries(f"`{name}`")) if name in maps else F.col(f"`{name}`") for name in content
    ]
    # Apart from the attributes, so that who reads none of them keeps lines of the same ids.
    ids = [name for name in content if not name.startswith("@")]
    rank = F.row_number().over(
        Window.partitionBy(id_column, day_number(F.col("time_us")), F.col("reason").isNull()).orderBy(
            "time_us", F.xxhash64(*ids), F.xxhash64(*hashed)
        )
    )
    is_repeated = F.col("reason").isNull() & (F.col(_RANK) > 1)
    as_json = F.to_json(F.struct(*(F.col(f"`{name}`") for name in content)))
    return (
        lines.withColumn(_RANK, rank)
        .withColumn("line", F.when(is_repeated, as_json).otherwise(F.col("line")))
        .withColumn(
            "reason",
            F.when(is_repeated, f"{DUPLICATE}_{id_column.removesuffix('_id')}").otherwise(F.col("reason")),
        )
        .drop(_RANK)
    )
