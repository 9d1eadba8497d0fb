"""The Spark session that all jobs share."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from esmm_spark.contracts.disjoint_paths import ConfigPath
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.files.filesystems import spark_path
from esmm_spark.runtime.log import LEVEL_VARIABLE
from esmm_spark.runtime.memory import sampled_memory
from esmm_spark.runtime.run_notes import stage

# torch and numpy would each start a thread per core in every Python worker, on cores that are busy already.
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


# What to hand to spark-submit where Spark lacks a file system's classes.
_PACKAGES = {
    "s3a": "--packages org.apache.hadoop:hadoop-aws:{hadoop}",
    "gs": "--packages com.google.cloud.bigdataoss:gcs-connector:VERSION",
}


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
        # By default a batch is bounded in lines alone, and a line may be of any length.
        .config("spark.sql.execution.arrow.maxBytesPerBatch", str(8 << 20))
        # Columns of logs are what they are called: `user` and `User` are two.
        .config("spark.sql.caseSensitive", "true")
        # Else Parquet's timestamps in nanoseconds, which pandas writes, can't be read at all.
        .config("spark.sql.legacy.parquet.nanosAsLong", "true")
        # Two keys of a map that are one value, 11 and 11.0: no reason to fail.
        .config("spark.sql.mapKeyDedupPolicy", "LAST_WIN")
        # Hadoop would write by a umask of its own, 022, whatever the user's.
        .config("spark.hadoop.fs.permissions.umask-mode", _umask())
        # Its frames would fill a log; esmm_spark/spark/steps.py shows the long steps by name.
        .config("spark.ui.showConsoleProgress", "false")
        # Else pyspark notes for each column where it was made: 15,000 of 26,000 calls to Java of a small day.
        .config("spark.python.sql.dataFrameDebugging.enabled", "false")
        # A cached frame keeps spark.sql.shuffle.partitions tasks otherwise, however small it is.
        .config("spark.sql.optimizer.canChangeCachedPlanOutputPartitioning", "true")
    )
    for name in _ONE_THREAD:
        builder = builder.config(f"spark.executorEnv.{name}", "1")
    if LEVEL_VARIABLE in os.environ:
        builder = builder.config(f"spark.executorEnv.{LEVEL_VARIABLE}", os.environ[LEVEL_VARIABLE])
    for key, value in (options or {}).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    if threading.current_thread() is threading.main_thread():
        # pyspark's handler of Ctrl-C asks a JVM that may have been stopped by it, too, and fails instead of
        # telling: `failures.user_errors` cancels the jobs.
        signal.signal(signal.SIGINT, _interrupt)
    return session


def _umask() -> str:
    """Returns this process's umask as octal digits: `0022`."""
    # os.umask can only be asked by changing it, for all threads.
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(line.split()[1] for line in status.splitlines() if line.startswith("Umask:"))


@contextmanager
def job_session(
    app_name: str, paths: Iterable[ConfigPath] = (), options: Mapping[str, str] | None = None
) -> Iterator[SparkSession]:
    """Yields the session of a job and stops it when the job has ended, however it has.

    A session that was there before is its owner's to stop.

    Args:
        app_name: as Spark's UI shows it.
        paths: what the job reads and writes.
        options: as `spark_session` takes them.

    Raises:
        ConfigError: as `require_filesystems` does.
    """
    is_ours = SparkSession.getActiveSession() is None
    with stage("start Spark"):
        session = spark_session(app_name, options)
    try:
        require_filesystems(session, paths)
        with sampled_memory(_first_process()):
            yield session
    finally:
        if is_ours:
            session.stop()


def _first_process() -> int:
    """Returns the id of the process that the job's others on this host come from: spark-submit's, or ours."""
    return os.getppid() if "PYSPARK_GATEWAY_PORT" in os.environ else os.getpid()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Ends the process at Ctrl-C; py4j would log a stack trace of it."""
    logging.disable(logging.CRITICAL)
    raise KeyboardInterrupt


def require_filesystems(spark: SparkSession, paths: Iterable[ConfigPath]) -> None:
    """Raises unless Spark has the classes that read and write the paths: a job would find that out later.

    Raises:
        ConfigError: naming the first of `paths` that can't be served, and the package that does.
    """
    context = spark.sparkContext
    jvm, configuration = context._jvm, context._jsc.hadoopConfiguration()
    assert jvm is not None
    for path in paths:
        scheme = spark_path(path.value).partition(":")[0]
        try:
            jvm.org.apache.hadoop.fs.FileSystem.getFileSystemClass(scheme, configuration)
        except Py4JJavaError as error:
            hadoop = jvm.org.apache.hadoop.util.VersionInfo.getVersion()
            package = _PACKAGES.get(scheme, "the package of that file system").format(hadoop=hadoop)
            raise ConfigError(
                f"{path.key} = {path.value}: Spark has no file system for {scheme}:// ({first_line(error)}): "
                f"start the job with spark-submit {package}"
            ) from error


def first_line(error: Exception) -> str:
    """Returns the first line of what Spark, or the JVM behind it, says went wrong."""
    text = str(error)
    if isinstance(error, Py4JJavaError):
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        text = str(cause.toString())
    return (text.strip().splitlines() or ["Spark can't read it"])[0]
