"""Fixtures that several rooms share."""

import os
import sys
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

# Spark starts its Python workers by name: without this they may be another Python than the one that runs the
# tests.
os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One small session for the whole run: two cores, UTC, four shuffle partitions, no UI."""
    from esmm_spark.spark.session import spark_session

    options = {
        "spark.master": "local[2]",
        "spark.driver.memory": "2g",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    arguments = " ".join(f"--conf {key}={value}" for key, value in options.items())
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"{arguments} pyspark-shell"
    session = spark_session("esmm_spark tests")
    yield session
    session.stop()


@pytest.fixture
def spark_elsewhere(spark: SparkSession) -> Iterator[SparkSession]:
    """The session, its default file system not this host's, as on a Hadoop cluster, and out of reach."""
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    before = configuration.get("fs.defaultFS")
    configuration.set("fs.defaultFS", "nosuch://cluster")
    yield spark
    configuration.set("fs.defaultFS", before)
