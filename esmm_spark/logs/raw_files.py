"""Ali-CCP's raw files to canonical lines, each with its group's key; only the first commas matter.

Lines stay bytes: Spark's text source hands on what stands between two line feeds, a carriage return or bytes
that are no UTF-8 too, in a string column that nothing here decodes. So a broken line is rejected as it was,
not mended on the way.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.locations import glob_hint
from esmm_spark.contracts.sample_config import SplitLogs
from esmm_spark.files import filesystems
from esmm_spark.logs.heads import check_opaque, is_opaque, read_head
from esmm_spark.logs.line_files import local_path, plain_paths
from esmm_spark.logs.lines import CONTEXT, IMPRESSION, Lines
from esmm_spark.spark.session import first_line

# What a line of Ali-CCP's brings.
_NUM_LABELS = 2
_READS_AT_ONCE = 16


class LineTasks(NamedTuple):
    """Tasks that read lines of impressions themselves, past Spark's records.

    Attributes:
        number: how many.
        read: yields the lines of the task with a number from 0 on, some at a time.
    """

    number: int
    read: Callable[[int], Iterator[Lines]]


class CanonicalLines(NamedTuple):
    """The lines of one split, in Ali-CCP's format, whatever log they come from.

    Both frames have the grain of a line and these columns:

        line  string  the raw bytes, without the line feed
        key   string  the common feature index; null if the line is blank

    Attributes:
        contexts: the lines of the common features.
        impressions: the lines of the skeleton.
        files: path and kind of the local files that hold the same lines as they are, or None.
        byte_order_marks: files of the contexts and of the impressions that begin with one, which is skipped.
        tasks: what reads the impressions' lines with less trouble than Spark does; None: Spark does.
        num_bytes: about how many bytes the contexts' and the impressions' lines have; None: they are counted.
    """

    contexts: DataFrame
    impressions: DataFrame
    files: list[tuple[str, int]] | None = None
    byte_order_marks: tuple[int, int] = (0, 0)
    num_bytes: tuple[int | None, int | None] = (None, None)
    tasks: LineTasks | None = None


def read_split(spark: SparkSession, logs: SplitLogs) -> CanonicalLines:
    """Returns the lines of one split's raw files.

    Raises:
        InputError: a path leads to no file, or to one that can't be read as lines of text.
    """
    contexts = _read_lines(spark, logs.common_features, "common features")
    impressions = _read_lines(spark, logs.skeleton, "skeleton")
    uris = [frame.inputFiles() for frame in (contexts, impressions)]
    marks = [check_texts(of_kind) for of_kind in uris]
    paths = [plain_paths(of_kind) for of_kind in uris]
    files = None
    if paths[0] is not None and paths[1] is not None:
        files = [(path, CONTEXT) for path in paths[0]] + [(path, IMPRESSION) for path in paths[1]]
    return CanonicalLines(
        contexts=contexts.withColumn("key", F.when(~_is_blank(), F.substring_index("line", ",", 1))),
        impressions=impressions.withColumn("key", F.when(~_is_blank(), impression_key(_NUM_LABELS))),
        files=files,
        byte_order_marks=(marks[0], marks[1]),
    )


def check_texts(uris: Sequence[str]) -> int:
    """Returns how many files begin with a byte order mark.

    Args:
        uris: the files, as Spark names them. One that Spark alone can reach is left to it.

    Raises:
        InputError: a file holds no lines of text.
    """
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        return sum(pool.map(_check_text, uris))


def _check_text(uri: str) -> bool:
    """Returns whether a file begins with a byte order mark; raises InputError where it holds no lines."""
    path = local_path(uri)
    if path is None:
        # Spark percent-encodes what it lists, also where no file system does.
        path = unquote(uri)
        try:
            filesystems.filesystem_of(path)
        except InputError:
            return False
    if is_opaque(path):
        check_opaque(path)
        return False
    head = read_head(path)
    if head.ends_lines_by_returns:
        raise InputError(
            f"{path} ends its lines by carriage returns alone: write line feeds, e.g. tr '\\r' '\\n'"
        )
    return head.has_mark


def impression_id() -> Column:
    """Returns the sample id of the skeleton line in the column `line`."""
    return F.substring_index("line", ",", 1)


def impression_key(num_labels: int) -> Column:
    """Returns the common feature index of the skeleton line in the column `line`."""
    # A line with fewer columns gets some key or other: it is rejected whatever group it is sorted into.
    return F.substring_index(F.substring_index("line", ",", 2 + num_labels), ",", -1)


def _is_blank() -> Column:
    return F.col("line").isin("", "\r")


def _read_lines(spark: SparkSession, path: str, what: str) -> DataFrame:
    try:
        # lineSep: by default a lone carriage return would end a line, too.
        lines = spark.read.text(filesystems.spark_source(path, is_glob=True), lineSep="\n")
        return lines.select(F.col("value").alias("line"))
    except (PySparkException, Py4JJavaError) as error:
        raise InputError(f"no {what} at {path}: {first_line(error)}{glob_hint(path)}") from error
