"""Spark's daemon of Python workers (`spark.python.daemon.module`), made for short tasks.

Workers are forked from it, so what it has imported they share, and are ready at once.
"""

import gc
from zipimport import zipimporter

from pyspark.daemon import manager

from esmm_spark.runtime.log import set_up_logging


def serve() -> None:
    """Runs Spark's daemon until Spark ends it."""
    set_up_logging()
    # A worker asks every importer before each task whether files have changed, and Spark's zip and jar files,
    # of 6,500 entries, are read anew by it: 0.1 s of every task. They don't change while a job runs.
    zipimporter.invalidate_caches = _do_nothing  # type: ignore[method-assign, assignment]
    # A worker's garbage collection would write to the pages that it shares, and so copy them.
    gc.freeze()
    manager()  # type: ignore[no-untyped-call]


def _do_nothing(importer: zipimporter) -> None:
    """Does nothing."""


if __name__ == "__main__":
    serve()
