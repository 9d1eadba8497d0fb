"""Fixtures that several rooms share, and what only marked tests may start (`make test-fast` skips them)."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pyspark.sql import SparkSession
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.repository import ROOT

# Spark starts its Python workers by name: without this they may be another Python than the one that runs the
# tests.
os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable

# What a process starts as, and the marker of the tests that may start it. pyspark, too, starts Java by
# spark-submit.
NEEDED_MARKERS = {"spark-submit": "spark", "horovodrun": "horovod", "torchrun": "horovod"}
_at_work: list[pytest.Item] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Notes the test at work, its fixtures included, for `_require_marker`."""
    _at_work.append(item)
    try:
        return (yield)
    finally:
        _at_work.pop()


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Refuses tests that use the Spark session without the marker, which another test may have started."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()) and item.get_closest_marker("spark") is None:
            raise pytest.UsageError(f"{item.nodeid} uses Spark: mark it with pytest.mark.spark")


class _ByStarts(LoadScopeScheduling):  # type: ignore[misc]
    """Gives one process all files with tests that start Spark, one those that start ranks, others by file.

    Unless those tests are left out.

    xdist's own groups (`loadgroup`) are void: xdist 3.8 sets what pytest 9.2 no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        text = (ROOT / path).read_text(encoding="utf-8")
        left_out = self.config.option.markexpr
        starts = (
            name
            for name in NEEDED_MARKERS.values()
            if f"pytest.mark.{name}" in text and f"not {name}" not in left_out
        )
        return next(starts, path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Returns how tests are dealt to processes, where there are several."""
    return _ByStarts(config, log)


def _require_marker(event: str, arguments: tuple[Any, ...]) -> None:
    """Fails the test at work if it starts Spark or ranks without the marker for that."""
    if event != "subprocess.Popen" or not _at_work:
        return
    command = arguments[1]
    for word in [command] if isinstance(command, str | bytes | os.PathLike) else command:
        name = os.path.basename(os.fsdecode(word))
        marker = NEEDED_MARKERS.get(name)
        if marker is not None and _at_work[-1].get_closest_marker(marker) is None:
            pytest.fail(f"{_at_work[-1].nodeid} starts {name}: mark it with pytest.mark.{marker}")


sys.addaudithook(_require_marker)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors on many threads mostly wait for each other."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


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
def only_named_jobs(spark: SparkSession) -> Iterator[None]:
    """Fails a test that runs Spark jobs of no step (`spark/steps.py`): nobody would see how far they are."""
    tracker, context = spark.sparkContext.statusTracker(), spark.sparkContext._jsc.sc()
    # Without a group.
    before = {*tracker.getJobIdsForGroup(None)}
    yield
    context.listenerBus().waitUntilEmpty(10_000)
    unnamed = [tracker.getJobInfo(job) for job in sorted({*tracker.getJobIdsForGroup(None)} - before)]
    stages = [tracker.getStageInfo(stage) for job in unnamed if job is not None for stage in job.stageIds]
    assert not unnamed, f"Spark jobs of no step: {[stage and stage.name for stage in stages]}"


@pytest.fixture
def spark_elsewhere(spark: SparkSession) -> Iterator[SparkSession]:
    """The session, its default file system not this host's, as on a Hadoop cluster, and out of reach."""
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    before = configuration.get("fs.defaultFS")
    configuration.set("fs.defaultFS", "nosuch://cluster")
    yield spark
    configuration.set("fs.defaultFS", before)
