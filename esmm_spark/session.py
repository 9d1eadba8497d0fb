"""The Spark session that all jobs share."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from types import FrameType

from pyspark.sql import SparkSession

# torch and numpy would each start a thread per core in every Python worker, on cores that are busy already.
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def spark_session(app_name: str, options: Mapping[str, str] | None = None) -> SparkSession:
    """Returns the session of a job: what spark-submit was told, else local mode on all cores, times in UTC.

    Python workers use the driver's interpreter unless PYSPARK_PYTHON names another. `options` are more of
    Spark's settings, for what a job needs beside these.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = (
        SparkSession.builder.appName(app_name)
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .config("spark.sql.parquet.compression.codec", "zstd")
        # By default a batch is bounded in rows alone, and a row may be a line of any length.
        .config("spark.sql.execution.arrow.maxBytesPerBatch", str(8 << 20))
        # Columns of logs are what they are called: `user` and `User` are two.
        .config("spark.sql.caseSensitive", "true")
        # Else Parquet's timestamps in nanoseconds, which pandas writes, can't be read at all.
        .config("spark.sql.legacy.parquet.nanosAsLong", "true")
        # Two keys of a map that are one value, 11 and 11.0: no reason to fail.
        .config("spark.sql.mapKeyDedupPolicy", "LAST_WIN")
        # A cached frame keeps spark.sql.shuffle.partitions tasks otherwise, however few rows it has.
        .config("spark.sql.optimizer.canChangeCachedPlanOutputPartitioning", "true")
    )
    for name in _ONE_THREAD:
        builder = builder.config(f"spark.executorEnv.{name}", "1")
    for key, value in (options or {}).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    if threading.current_thread() is threading.main_thread():
        # pyspark's handler of Ctrl-C asks a JVM that may have been stopped by it, too, and fails instead of
        # telling: `failures.user_errors` cancels the jobs.
        signal.signal(signal.SIGINT, _interrupt)
    return session


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Ends the process at Ctrl-C; py4j would log a stack trace of it."""
    logging.disable(logging.CRITICAL)
    raise KeyboardInterrupt
