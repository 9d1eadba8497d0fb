"""The Spark session: which file systems it can serve, told before a job begins."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.disjoint_paths import ConfigPath
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.spark.session import job_session, require_filesystems
from tests.repository import ROOT

pytestmark = pytest.mark.spark


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "s3a://bucket/x",
            r"S3AFileSystem not found.*--packages org.apache.hadoop:hadoop-aws:3",
        ),
        ("s3://bucket/x", r"no file system for s3a:// .*hadoop-aws:3"),
        ("gs://bucket/x", r'No FileSystem for scheme "gs".*gcs-connector'),
    ],
)
def test_a_file_system_that_spark_lacks_is_told_with_its_package(
    spark: SparkSession, uri: str, expected: str
) -> None:
    paths = [ConfigPath("paths.dataset", "data/x"), ConfigPath("evaluate.truth", uri)]
    with pytest.raises(ConfigError, match=rf"evaluate.truth = {uri}: .*{expected}") as caught:
        require_filesystems(spark, paths)
    assert "\n" not in str(caught.value)


def test_this_host_and_hadoop_are_served_by_spark_itself(spark: SparkSession) -> None:
    require_filesystems(spark, [ConfigPath("a", "data/[x]"), ConfigPath("b", "hdfs:///x")])


def test_a_session_that_was_there_before_is_not_stopped_by_a_job(spark: SparkSession) -> None:
    with job_session("another job") as session:
        assert session is spark
    assert spark.range(3).count() == 3


@pytest.mark.parametrize("ends", ["pass", "raise SystemExit", "1 / 0"])
def test_a_job_stops_its_own_session_however_it_ends(ends: str) -> None:
    script = f"""
from unittest.mock import MagicMock
from pyspark.sql import SparkSession
from esmm_spark.spark import session
SparkSession.getActiveSession = lambda: None
session.spark_session = MagicMock()
session.require_filesystems = lambda spark, paths: None
try:
    with session.job_session("job") as spark:
        {ends}
except (SystemExit, ZeroDivisionError):
    pass
spark.stop.assert_called_once_with()
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)


WRITER = """
import sys
from esmm_spark.spark.session import spark_session
spark = spark_session("umask", {"spark.master": "local[1]", "spark.ui.enabled": "false"})
spark.range(3).write.parquet("file://" + sys.argv[1])
"""


@pytest.mark.slow
def test_what_spark_writes_has_the_users_umask(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYSPARK_SUBMIT_ARGS"}
    command = [sys.executable, "-c", WRITER, str(tmp_path / "out")]
    subprocess.run(command, cwd=ROOT, env=environment, umask=0o027, check=True, timeout=240)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes.pop("out") == 0o750
    assert len(modes) >= 2
    assert set(modes.values()) == {0o640}
