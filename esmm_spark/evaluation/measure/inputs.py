"""Reading scores and the simulator's truth: what a folder must hold before Spark opens it."""

import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyarrow import fs
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.locations import literal_hint, place_of
from esmm_spark.contracts.schemas.columns import SCORE_COLUMNS, TRUTH_COLUMNS, Column
from esmm_spark.contracts.schemas.layout import SCORE_NAME, TRUTH
from esmm_spark.contracts.schemas.records import ScoreRecord
from esmm_spark.files import filesystems, seals, storage
from esmm_spark.files.records import read_record
from esmm_spark.files.schemas import arrow_type
from esmm_spark.spark.schemas import spark_schema

SCORES_SCHEMA = spark_schema(SCORE_COLUMNS)
TRUTH_SCHEMA = spark_schema(TRUTH_COLUMNS)

_SCORE_AGAIN = "score the partition again with --force"
_MAX_VERSIONS = 3  # named in a message


def read_scores(spark: SparkSession, folder: str) -> tuple[DataFrame, int]:
    """Returns the scores in a partition's folder and their number of rows, from the files' footers.

    Raises:
        InputError: nothing there, no rows, a file that isn't Parquet, lacks a column or is damaged, or
            another number of rows than the scorer wrote.
        IncompleteError: the partition is half-written.
    """
    storage.require_complete(folder, "scores", "run jobs/score.py")
    storage.refuse_pickles(folder, "scores")
    names = [name for name, _ in storage.list_files(folder, ".parquet", recursive=False) if _is_data(name)]
    seals.verify(folder, names, _SCORE_AGAIN)
    num_rows = _check_files(folder, SCORE_COLUMNS, "scores")
    _check_record(folder, num_rows)
    return spark.read.schema(SCORES_SCHEMA).parquet(filesystems.spark_source(folder)), num_rows


def read_truth(spark: SparkSession, path: str) -> DataFrame:
    """Returns the simulator's truth, of all splits. Raises InputError as `read_scores` does."""
    if not storage.exists(path):
        raise InputError(
            f"no truth at {path}{literal_hint(path)}: evaluate.truth names the {TRUTH} of jobs/simulate.py"
        )
    _check_files(path, TRUTH_COLUMNS, "truth")
    # The simulator may partition its folder by split: Spark adds such a column behind the schema's.
    truth = spark.read.schema(TRUTH_SCHEMA).parquet(filesystems.spark_source(path))
    return truth.select(*TRUTH_SCHEMA.names)


def baseline_folder(path: str, partition: str) -> str:
    """Returns the folder of the baseline's scores: `path` is a scores root or the partition itself."""
    below = storage.join(path, partition)
    is_partition = posixpath.basename(path.rstrip("/")) == partition or storage.is_complete(path)
    return path if is_partition and not storage.exists(below) else below


def require_other_scores(baseline: str, scores: str) -> None:
    """Raises ConfigError if both folders are one, so that a model would be compared with itself."""
    if place_of(baseline) == place_of(scores):
        raise ConfigError(
            f"evaluate.baseline_scores leads to {baseline}, the scores that are evaluated: name those of "
            "another model, or set evaluate.baseline_scores=null"
        )


def model_version(scores: DataFrame, folder: str) -> str:
    """Returns the one model version that made the scores. Raises InputError if there are several, or none."""
    with reading("the scores"):
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

    Spark's own log is silent meanwhile: it would print a stack trace per attempt before our one line.

    Args:
        what: what is read, for the message.
    """
    context = SparkSession.active().sparkContext
    context.setLogLevel("OFF")
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        found = re.search(r"FAILED_READ_FILE.* reading file (\S+?)\.?\s", str(error))
        if found is None:
            raise
        raise InputError(f"{what} can't be read, {found[1]} is corrupt: write it again") from error
    finally:
        context.setLogLevel("ERROR")


def _check_files(uri: str, columns: Sequence[Column], what: str) -> int:
    """Returns the rows of the Parquet file or files at `uri`, which must all have `columns`."""
    filesystem, path = filesystems.filesystem_of(uri)
    if filesystem.get_file_info(path).type == fs.FileType.File:
        paths = [path]
    else:
        names = [name for name, _ in storage.list_files(uri, ".parquet") if _is_data(name)]
        paths = [posixpath.join(path, name) for name in names]
    # Footers only: a file of any size costs a few reads from its end.
    num_rows = sum(_check_file(filesystem, file, columns, what) for file in paths)
    if num_rows == 0:
        raise InputError(f"the {what} at {uri} have no rows in {len(paths)} Parquet files")
    return num_rows


def _check_file(filesystem: fs.FileSystem, file: str, columns: Sequence[Column], what: str) -> int:
    """Returns the rows of one Parquet file."""
    try:
        with filesystem.open_input_file(file) as stream:
            metadata = pq.read_metadata(stream)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).split(". ")[0]
        raise InputError(
            f"{file} is no Parquet file, or a truncated one ({reason}): write {what} again"
        ) from error
    found = {field.name: field.type for field in metadata.schema.to_arrow_schema()}
    missing = [column.name for column in columns if column.name not in found]
    if missing:
        raise InputError(
            f"{file} lacks the columns {', '.join(missing)} of {what}: it has {', '.join(found)}"
        )
    for column in columns:
        # Spark reads both as a string.
        kind = pa.string() if pa.types.is_large_string(found[column.name]) else found[column.name]
        if kind != arrow_type(column):
            raise InputError(
                f"column {column.name} of {file} is {found[column.name]}, of {what} it must be {column.type}"
            )
    return int(metadata.num_rows)


def _check_record(folder: str, num_rows: int) -> None:
    """Raises InputError if the scorer's own record tells of other rows: a file came or went since."""
    uri = storage.join(folder, SCORE_NAME)
    if not storage.exists(uri):
        return
    expected = read_record(uri, ScoreRecord, _SCORE_AGAIN).impressions
    if expected != num_rows:
        raise InputError(
            f"the scores at {folder} have {num_rows} rows, {SCORE_NAME} tells of {expected} impressions: "
            f"{_SCORE_AGAIN}"
        )


def _is_data(name: str) -> bool:
    """Returns whether Spark reads a file: neither it nor a folder above it begins with `_` or `.`."""
    return not any(part.startswith(("_", ".")) for part in name.split("/"))
