"""Simulated logs, and a Spark cluster of processes of its own; `make test-cluster` runs what is here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from esmm_spark.simulation.simulate import simulate
from tests.cluster.standalone import Standalone

NUM_GROUPS = 400


@pytest.fixture(scope="session")
def raw(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of simulated raw logs, with their truth."""
    folder = tmp_path_factory.mktemp("cluster-logs") / "raw"
    simulate(spark, str(folder), NUM_GROUPS, 1, "demo")
    return folder


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """A cluster that the test may break."""
    standalone = Standalone(tmp_path_factory.mktemp("standalone"))
    yield standalone
    standalone.close()
