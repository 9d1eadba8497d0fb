"""The frequent values of fields with min_count > 1, by the hash that makes their bucket.

    <dataset>/vocabulary/*.parquet     field string, value_hash bigint

A value that isn't in it goes to bucket 0, 'rare'. Every process that hashes holds it in memory, 8 bytes a
value; what MAX_VALUES allows is 512 MiB.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.files import filesystems, seals, storage
from esmm_spark.logs.lines import CONTEXT, IMPRESSION
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.runtime.arrays import Int64s
from esmm_spark.samples.hashing.held_out import HeldOut, is_held_out
from esmm_spark.samples.value_counts import COUNTS_SCHEMA, count_values

MAX_VALUES = 1 << 26
VOCABULARY_SCHEMA = pa.schema([("field", pa.string()), ("value_hash", pa.int64())])


def load_vocabulary(folder: str, spec: FeatureSpec) -> dict[str, Int64s]:
    """Returns field name -> int64, ascending: its frequent values' hashes, for fields with min_count > 1.

    Args:
        folder: URI of the vocabulary of a dataset or a model directory.
        spec: their feature spec.

    Raises:
        InputError: there is no vocabulary at `folder`, or a file of it is damaged.
    """
    files = storage.list_files(folder, ".parquet")
    if not files:
        raise InputError(f"no vocabulary at {folder}, which fields with min_count > 1 need: preprocess again")
    seals.verify(folder, [path for path, _ in files], "preprocess or train again")
    filesystem, root = filesystems.filesystem_of(folder)
    hashes: dict[str, list[Int64s]] = {field.name: [] for field in spec.fields if field.min_count > 1}
    for path, _ in files:
        table = pq.read_table(f"{root}/{path}", filesystem=filesystem, schema=VOCABULARY_SCHEMA)
        for name, found in hashes.items():
            found.append(table.filter(pc.equal(table["field"], name))["value_hash"].to_numpy())
    return {name: np.sort(np.concatenate(found)) for name, found in hashes.items()}


def write_vocabulary(
    lines: CanonicalLines,
    spec: FeatureSpec,
    brought: ImpressionColumns,
    held_out: HeldOut | None,
    folder: str,
    max_values: int = MAX_VALUES,
) -> str:
    """Writes the values that stand on at least min_count lines of the training split; returns their digest.

    Counted are the lines that parse, whether they are rejected for another reason or not, and none of the
    groups that are held out: validation tells nothing of itself.

    Args:
        lines: the training split's.
        spec: the feature spec.
        brought: the labels and carried columns of an impression.
        held_out: the groups that don't count, if any.
        folder: URI of the folder to write.
        max_values: more are too many to hold in memory.

    Raises:
        ConfigError: there are more than `max_values` of them.
    """

    def count(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        return count_values(batches, spec, brought)

    def counted(frame: DataFrame, kind: int) -> DataFrame:
        frame = frame.where("key is not null")
        if held_out is not None:
            frame = frame.where(~is_held_out(held_out))
        return frame.select(F.lit(kind).cast("tinyint").alias("kind"), "line")

    names = F.array(*[F.lit(field.name) for field in spec.fields])
    min_counts = F.array(*[F.lit(field.min_count) for field in spec.fields])
    all_lines = counted(lines.contexts, CONTEXT).unionByName(counted(lines.impressions, IMPRESSION))
    (
        all_lines.mapInArrow(count, COUNTS_SCHEMA)
        .groupBy("field", "value_hash")
        .agg(F.sum("lines").alias("lines"))
        .where(F.col("lines") >= F.get(min_counts, F.col("field")))
        .select(F.get(names, F.col("field")).alias("field"), "value_hash")
        .write.parquet(filesystems.spark_path(folder))
    )
    # Spark's own marker is empty.
    seals.seal(folder, suffixes=(".parquet",))
    num_values, digest = _content_of(lines.impressions.sparkSession, folder)
    if num_values > max_values:
        raise ConfigError(
            f"{num_values} values have the min_count of their field, more than {max_values}, "
            "and every process that hashes holds them in memory: raise features.fields.*.min_count"
        )
    return digest


def _content_of(spark: SparkSession, folder: str) -> tuple[int, str]:
    """Returns the number of values, and with it a hash that doesn't depend on how they lie in files."""
    values = spark.read.schema("field string, value_hash bigint").parquet(filesystems.spark_source(folder))
    mixed = F.bit_xor(F.xxhash64("field", "value_hash"))
    found = values.agg(F.count("*").alias("number"), F.coalesce(mixed, F.lit(0)).alias("mixed")).collect()[0]
    return found.number, f"{found.number}-{found.mixed % 2**64:016x}"
