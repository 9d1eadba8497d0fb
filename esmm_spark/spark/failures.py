"""Translates a failed Spark job into one user error: a worker's exception, a full disk, a damaged file.

A worker's exception reaches the driver as text in a Java exception; without this the user gets three stack
traces for one damaged file.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from esmm_spark.contracts import errors
from esmm_spark.contracts.errors import EsmmSparkError, InputError, UnwritableError
from esmm_spark.files.write_errors import refusal
from esmm_spark.spark.unreadable import unreadable_file

_RAISED_IN_WORKER = re.compile(r"^esmm_spark\.contracts\.errors\.(\w+): (.*)$", re.MULTILINE)
# What Spark's SQL says of a value that an expression can't take: SQLSTATE 22, data exceptions.
_BAD_VALUE = re.compile(r"\[[A-Z_]+(?:\.[A-Z_]+)?\] (.+?) SQLSTATE: 22\w{3}", re.DOTALL)
_EXPRESSION = re.compile(r"^== SQL [^\n]*==\n(.+?)\n\^+", re.MULTILINE | re.DOTALL)
_NOT_THERE = re.compile(r"\[PATH_NOT_FOUND\] Path does not exist: (\S+?)\.\s")
# What a worker's Python, pyarrow and Java say when the operating system refuses.
_REFUSED_IN_WORKER = re.compile(r"^(?:\w+\.)*\w*Error: (\[[Ee]rrno (\d+)\].*)$", re.MULTILINE)
_REFUSED_IN_JAVA = re.compile(
    r"^.*(?:(No space left on device|Disk quota exceeded)"
    r"|(Permission denied|Read-only file system|Not a directory|Mkdirs failed to create)"
    r"|Input/output error|Stale file handle).*$",
    re.MULTILINE,
)


@contextmanager
def user_errors(spark: SparkSession, remedy: str, what: str | None = None) -> Iterator[None]:
    """Runs Spark jobs whose failures are raised as the EsmmSparkError behind them, where there is one.

    Spark's own log is silent meanwhile: it would print the stack trace of each attempt, and what it says is
    in the exception too. After a failure or Ctrl-C it stays so: tasks that are still at work are stopped, and
    would say so at length.

    Args:
        spark: the session.
        remedy: what the user should do about a file that can't be read.
        what: what is written meanwhile, for messages ("paths.dataset data/x"); None where nothing is.

    Raises:
        EsmmSparkError: of the class and message that a worker raised; InputError for a file that Spark can't
            read; UnwritableError where a disk is full or a permission is missing.
    """
    spark.sparkContext.setLogLevel("OFF")
    try:
        yield
    except (PySparkException, Py4JJavaError) as failure:
        found = _cause_for_people(failure, remedy)
        found = found or _refusal(spark, failure, what or "Spark's scratch folder")
        if found is None:
            raise
        raise found from failure
    except KeyboardInterrupt:
        # Tasks would go on, and write into a folder that is being deleted. There may be no JVM any more:
        # it got the signal, too.
        with suppress(Exception):
            spark.sparkContext.cancelAllJobs()
        raise
    spark.sparkContext.setLogLevel("ERROR")


def _cause_for_people(failure: Exception, remedy: str) -> EsmmSparkError | None:
    text = "\n".join(_messages(failure))
    raised = _RAISED_IN_WORKER.findall(text)
    if raised:
        # Python tells a cause before what was made of it.
        name, message = raised[-1]
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, EsmmSparkError):
            return kind(message)
    unreadable = unreadable_file(text, remedy)
    if unreadable is not None:
        return unreadable
    bad_value = _BAD_VALUE.search(text)
    if bad_value:
        found = _EXPRESSION.search(text, bad_value.end())
        where = f" in {found[1].strip()!r}" if found else ""
        return InputError(f"an expression fails: {bad_value[1].splitlines()[0]}{where}: {remedy}")
    missing = _NOT_THERE.search(text + "\n")
    if missing:
        return InputError(f"no file at {missing[1]}: {remedy}")
    return None


def _refusal(spark: SparkSession, failure: Exception, what: str) -> UnwritableError | None:
    """Returns what to tell where the operating system refused to write; it doesn't always say which file."""
    text = "\n".join(_messages(failure))
    in_worker = _REFUSED_IN_WORKER.search(text)
    if in_worker:
        return refusal(int(in_worker[2]), in_worker[1] + _scratch(spark, int(in_worker[2])), what)
    in_java = _REFUSED_IN_JAVA.search(text)
    if in_java:
        number = errno.ENOSPC if in_java[1] else errno.EACCES if in_java[2] else errno.EIO
        return refusal(number, in_java[0].strip() + _scratch(spark, number), what)
    return None


def _scratch(spark: SparkSession, number: int) -> str:
    """Returns how full Spark's own folder is, where a disk is full: it may be the one."""
    if number != errno.ENOSPC:
        return ""
    configured = spark.sparkContext.getConf().get("spark.local.dir", None)
    folder = os.environ.get("SPARK_LOCAL_DIRS") or configured or tempfile.gettempdir()
    try:
        free = shutil.disk_usage(folder.split(",")[0]).free
    except OSError:
        return ""
    return f"; spark.local.dir {folder} has {free / (1 << 20):,.0f} MiB free"


def _messages(failure: Exception) -> Iterator[str]:
    """Yields the text of the exception and the messages of the Java exceptions behind it."""
    yield str(failure)
    java: Any = getattr(failure, "java_exception", None) or getattr(failure, "_origin", None)
    while java is not None:
        yield java.getMessage() or ""
        java = java.getCause()
