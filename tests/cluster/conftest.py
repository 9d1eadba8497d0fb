"""What the tests of `make test-cluster` share: simulated logs, a Spark cluster, an object store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from esmm_spark.samples.dataset import preprocess
from esmm_spark.simulation.simulate import simulate
from tests.cluster.object_store import ObjectStore, reached
from tests.cluster.runs import Run
from tests.cluster.standalone import Standalone

NUM_GROUPS = 400


@pytest.fixture(scope="session")
def raw(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of simulated raw logs, with their truth."""
    folder = tmp_path_factory.mktemp("cluster-logs") / "raw"
    simulate(spark, str(folder), NUM_GROUPS, 1, "demo")
    return folder


@pytest.fixture(scope="session")
def local(spark: SparkSession, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Preprocess's output in local mode."""
    run = Run("demo", raw, tmp_path_factory.mktemp("local") / "run")
    preprocess(spark, run.config)
    return run


@pytest.fixture(scope="session")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """A cluster whose master and workers no test breaks."""
    standalone = Standalone(tmp_path_factory.mktemp("steady"))
    yield standalone
    standalone.close()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """A cluster that the test may break."""
    standalone = Standalone(tmp_path_factory.mktemp("standalone"))
    yield standalone
    standalone.close()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """The server, which this process and its children reach."""
    made = ObjectStore(tmp_path_factory.mktemp("store"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            reached(made, patch)
            made.make_bucket()
            yield made
    finally:
        made.close()
