"""A Spark job that does a little of everything that the commands do: its classes are those that they load.

scripts/prepare_spark.py runs it to archive them.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F


def _as_they_are(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    yield from batches


def use_everything(spark: SparkSession, folder: Path) -> None:
    """Reads, joins, groups, sorts and writes a thousand rows, in Java and in Python."""
    times = F.timestamp_seconds(F.col("id"))
    numbers = spark.range(1000).withColumns({"text": F.col("id").cast("string"), "time": times})
    numbers.write.parquet(str(folder / "parquet"))
    numbers.write.json(str(folder / "json"), compression="gzip")
    rows = spark.read.parquet(str(folder / "parquet"))
    again = spark.read.schema(rows.schema).json(str(folder / "json"))
    again = again.select("text", F.col("id").alias("other"))
    joined: DataFrame = rows.join(again, "text", "left").withColumns(
        {
            "hash": F.xxhash64("text"),
            "rank": F.row_number().over(Window.partitionBy(F.col("id") % 7).orderBy(F.desc("time"), "id")),
            "values": F.sort_array(F.array(F.struct("id", "text"))),
        }
    )
    joined = joined.repartitionByRange(3, "id").sortWithinPartitions("id")
    joined.mapInArrow(_as_they_are, joined.schema).write.partitionBy("rank").parquet(str(folder / "joined"))
    sums = joined.groupBy("rank").agg(F.count_distinct("text"), F.collect_list("hash"), F.max("time"))
    sums.cache().count()
    sums.orderBy("rank").toArrow()
    spark.sparkContext.parallelize(range(8), 4).map(lambda number: number + 1).collect()


if __name__ == "__main__":
    session = SparkSession.builder.config("spark.sql.shuffle.partitions", 3).getOrCreate()
    with tempfile.TemporaryDirectory() as scratch:
        use_everything(session, Path(scratch))
    session.stop()
