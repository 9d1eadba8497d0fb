"""Reading scores and the simulator's truth: what a folder must hold before Spark opens it."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import (
    ByteType,
    DoubleType,
    FloatType,
    StringType,
    StructField,
    StructType,
)

from esmm_spark import storage
from esmm_spark.errors import InputError

# Grain: one row per scored impression. Key: impression_id.
SCORES_SCHEMA = StructType(
    [
        StructField("impression_id", StringType()),
        StructField("group_key", StringType()),
        StructField("pctr", FloatType()),
        StructField("pcvr", FloatType()),
        StructField("pctcvr", FloatType()),
        StructField("model_version", StringType()),
        StructField("click", ByteType()),
        StructField("conversion", ByteType()),
    ]
)

# Grain: one row per simulated impression, of all splits. Key: impression_id.
TRUTH_SCHEMA = StructType(
    [
        StructField("impression_id", StringType()),
        StructField("pctr", DoubleType()),
        StructField("pcvr", DoubleType()),
        StructField("conversion_if_clicked", ByteType()),
    ]
)

_MAX_VERSIONS = 3  # named in a message


def read_scores(spark: SparkSession, folder: str) -> tuple[DataFrame, int]:
    """Returns the scores in a partition's folder and their number of rows, from the files' footers.

    Raises:
        InputError: nothing there, no rows, a file that isn't Parquet or lacks a column.
        IncompleteError: the partition is half-written.
    """
    storage.require_complete(folder, "scores", "run jobs/score.py")
    storage.refuse_pickles(folder, "scores")
    num_rows = _check_files(folder, SCORES_SCHEMA, "scores")
    return spark.read.schema(SCORES_SCHEMA).parquet(folder), num_rows


def read_truth(spark: SparkSession, path: str) -> DataFrame:
    """Returns the simulator's truth, of all splits. Raises InputError as `read_scores` does."""
    if not storage.exists(path):
        raise InputError(f"no truth at {path}: evaluate.truth names the truth.parquet of jobs/simulate.py")
    _check_files(path, TRUTH_SCHEMA, "truth")
    # The simulator may partition its folder by split: Spark adds such a column behind the schema's.
    return spark.read.schema(TRUTH_SCHEMA).parquet(path).select(*TRUTH_SCHEMA.names)


def baseline_folder(path: str, partition: str) -> str:
    """Returns the folder of the baseline's scores: `path` is a scores root or the partition itself."""
    below = storage.join(path, partition)
    is_partition = posixpath.basename(path.rstrip("/")) == partition or storage.is_complete(path)
    return path if is_partition and not storage.exists(below) else below


def model_version(scores: DataFrame, folder: str) -> str:
    """Returns the one model version that made the scores. Raises InputError if there are several, or none."""
    rows = scores.select("model_version").distinct().limit(_MAX_VERSIONS).collect()
    versions = sorted(str(row.model_version) for row in rows)
    if len(versions) != 1 or rows[0].model_version is None:
        raise InputError(
            f"the scores at {folder} carry {len(versions)} model versions ({', '.join(versions)}), not one: "
            "score the partition again with --force"
        )
    return versions[0]


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns Spark's failure to read a file into an InputError that names it; other failures pass through.

    Args:
        what: what is read, for the message.
    """
    try:
        yield
    except PySparkException as error:
        if "FAILED_READ_FILE" not in str(error):
            raise
        line = next(line for line in str(error).splitlines() if "FAILED_READ_FILE" in line)
        raise InputError(
            f"{what} can't be read, a file is corrupt: {line.strip()}: write it again"
        ) from error


def _check_files(uri: str, schema: StructType, what: str) -> int:
    """Returns the rows of the Parquet file or files at `uri`, which must all have the schema's columns."""
    filesystem, path = storage.filesystem_of(uri)
    names = [name for name, _ in storage.list_files(uri, ".parquet") if _is_data(name)]
    paths = [posixpath.join(path, name) for name in names] or [path]
    num_rows = 0
    for file in paths:
        try:
            with filesystem.open_input_file(file) as stream:
                metadata = pq.read_metadata(stream)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"{file} is no Parquet file, or a truncated one ({error}): write {what} again"
            ) from error
        missing = [name for name in schema.names if name not in metadata.schema.to_arrow_schema().names]
        if missing:
            raise InputError(f"{file} lacks the columns {missing} of {what}: it has {metadata.schema.names}")
        num_rows += metadata.num_rows
    if num_rows == 0:
        raise InputError(f"the {what} at {uri} have no rows in {len(names)} Parquet files")
    return num_rows


def _is_data(name: str) -> bool:
    """Returns whether Spark reads a file: neither it nor a folder above it begins with `_` or `.`."""
    return not any(part.startswith(("_", ".")) for part in name.split("/"))
