"""Spark's settings for inputs so small that compiling plans costs more than running them.

docs/decisions has what each setting gives; none changes a result.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

# As stored. Event logs of 50,000 impressions in Parquet are 2 to 10 MiB with the days around them.
SMALL_BYTES = 16 << 20
_SETTINGS = {
    # Expressions are interpreted: Java compiles a plan for longer than a few thousand lines run in it.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # Each shuffle would be a job of its own, after which the rest is planned again.
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
}


@contextmanager
def small_input_settings(spark: SparkSession, num_bytes: int) -> Iterator[None]:
    """Runs the block's Spark jobs with settings for small inputs, if what they read is small.

    Args:
        spark: the session.
        num_bytes: of all that is read.
    """
    if num_bytes > SMALL_BYTES:
        yield
        return
    before = {key: spark.conf.get(key, None) for key in _SETTINGS}
    for key, value in _SETTINGS.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        # After Ctrl-C Spark may be gone.
        with suppress(Py4JError):
            for key, old in before.items():
                if old is None:
                    spark.conf.unset(key)
                else:
                    spark.conf.set(key, old)
