"""A Spark job's failure turned back into the user's mistake that caused it.

A worker's exception reaches the driver as text in a Java exception; without this the user gets three stack
traces for one damaged file.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from esmm_spark import errors
from esmm_spark.errors import EsmmSparkError, InputError

_RAISED_IN_WORKER = re.compile(r"^esmm_spark\.errors\.(\w+): (.*)$", re.MULTILINE)
_UNREADABLE_FILE = re.compile(r"\[FAILED_READ_FILE\.(\w+)\] Encountered error while reading file (\S+?)\.\s")
_NOT_THERE = re.compile(r"\[PATH_NOT_FOUND\] Path does not exist: (\S+?)\.\s")
_REASON_BY_CONDITION = {
    "FILE_NOT_EXIST": "it was deleted while it was read",
    "PARQUET_COLUMN_DATA_TYPE_MISMATCH": "a column has another type",
}


@contextmanager
def user_errors(spark: SparkSession, remedy: str) -> Iterator[None]:
    """Runs Spark jobs whose failures are raised as the EsmmSparkError behind them, where there is one.

    Spark's own log is silent meanwhile: it would print the stack trace of each attempt, and what it says is
    in the exception too.

    Args:
        spark: the session.
        remedy: what the user should do about a file that can't be read.

    Raises:
        EsmmSparkError: of the class and message that a worker raised; InputError for a file that Spark can't
            read.
    """
    spark.sparkContext.setLogLevel("OFF")
    try:
        yield
    except (PySparkException, Py4JJavaError) as failure:
        found = _cause_for_people(failure, remedy)
        if found is None:
            raise
        raise found from failure
    finally:
        spark.sparkContext.setLogLevel("ERROR")


def _cause_for_people(failure: Exception, remedy: str) -> EsmmSparkError | None:
    text = "\n".join(_messages(failure))
    raised = _RAISED_IN_WORKER.search(text)
    if raised:
        kind = getattr(errors, raised[1], None)
        if isinstance(kind, type) and issubclass(kind, EsmmSparkError):
            return kind(raised[2])
    unreadable = _UNREADABLE_FILE.search(text + "\n")
    if unreadable:
        reason = _REASON_BY_CONDITION.get(unreadable[1], "it is truncated, corrupt or no Parquet file")
        return InputError(f"can't read {unreadable[2]}: {reason}: {remedy}")
    missing = _NOT_THERE.search(text + "\n")
    if missing:
        return InputError(f"no file at {missing[1]}: {remedy}")
    return None


def _messages(failure: Exception) -> Iterator[str]:
    """Yields the text of the exception and the messages of the Java exceptions behind it."""
    yield str(failure)
    java: Any = getattr(failure, "java_exception", None) or getattr(failure, "_origin", None)
    while java is not None:
        yield java.getMessage() or ""
        java = java.getCause()
