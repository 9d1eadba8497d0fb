"""Deduplicates events: of equal ones the same line is kept, whatever the order of the log."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from esmm_spark.contracts.tables.log_files import UTC_ZONE
from esmm_spark.reading.local_days import day_number

DUPLICATE = "duplicate"

_RANK = "__rank"


def reject_duplicates(lines: DataFrame, id_column: str, zone: str = UTC_ZONE) -> DataFrame:
    """Returns the lines, those that repeat an id of the same day with the reason `duplicate_<event>`.

    Kept is the first by (time, hash of the ids, hash of all columns). Only a day is looked at, so that a
    day's partition follows from the days around it and not from the whole log.

    Args:
        lines: canonical lines; those that have a reason already are left as they are.
        id_column: `impression_id`, `click_id` or `conversion_id`.
        zone: the days'.
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
        Window.partitionBy(id_column, day_number(F.col("time_us"), zone), F.col("reason").isNull()).orderBy(
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
