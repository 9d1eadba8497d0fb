"""What Spark's failures are told as: a full disk, a missing permission."""

from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import InputError, UnwritableError
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.samples.dataset import preprocess
from esmm_spark.simulation.simulate import simulate
from esmm_spark.spark.failures import user_errors
from tests.files.disks import small_disk
from tests.samples.raw_lines import config_for, context, impression, token, write_split

pytestmark = pytest.mark.spark
WHAT = "paths.dataset data/x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Traceback ...\nOSError: [Errno 28] Error writing bytes to file. Detail: [errno 28] No space",
            r"no room to write paths\.dataset data/x, .*: \[Errno 28\] .*; spark\.local\.dir \S+ has .* f",
        ),
        (
            "Job aborted\n\tjava.io.IOException: No space left on device\n\tat java.base/...",
            r"no room to write paths\.dataset data/x, .*: java\.io\.IOException: No space left on device; ",
        ),
        (
            "Traceback ...\nPermissionError: [Errno 13] Permission denied: 'data/.x.staging'\n",
            r"refuses while paths\.dataset data/x is written: \[Errno 13\] Permission denied: 'data/\.x",
        ),
        (
            "org.apache.hadoop.fs.ParentNotDirectoryException: /a/file (Not a directory)",
            r"refuses while .*/a/file \(Not a directory\): mend the access",
        ),
        (
            "Traceback ...\nOSError: [Errno 5] Input/output error\n",
            r"^a disk or a file system fails while paths\.dataset data/x is written: \[Errno 5\] Input",
        ),
        (
            "Job aborted\n\tjava.io.IOException: Input/output error\n\tat java.base/...",
            r"^a disk or a file system fails while .*: java\.io\.IOException: Input/output error: mend it",
        ),
    ],
)
def test_what_the_operating_system_refused_in_a_worker_is_one_line(
    spark: SparkSession, text: str, message: str
) -> None:
    with pytest.raises(UnwritableError, match=message) as told, user_errors(spark, "mend it", WHAT):
        raise PySparkException(text)
    assert "\n" not in str(told.value)


def test_of_a_workers_error_and_its_cause_the_error_is_told(spark: SparkSession) -> None:
    text = (
        "Traceback ...\nesmm_spark.contracts.errors.InputError: click is missing\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback ...\nesmm_spark.contracts.errors.InputError: part-0.parquet: click is missing\n"
    )
    told = pytest.raises(InputError, match=r"^part-0\.parquet: click is missing$")
    with told, user_errors(spark, "mend it", WHAT):
        raise PySparkException(text)


def test_any_other_failure_of_spark_is_a_defect(spark: SparkSession) -> None:
    with pytest.raises(PySparkException, match="codegen"), user_errors(spark, "mend it", WHAT):
        raise PySparkException("codegen failed")


def test_a_disk_that_fills_up_under_a_simulation_is_one_line_and_leaves_nothing(
    spark: SparkSession, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "out", 200) as disk:
        with pytest.raises(UnwritableError, match=r"no room to write --output .*/out/raw, which has "):
            simulate(spark, f"{disk}/raw", 4_000, 1, "demo")
        assert list(disk.iterdir()) == []


def test_a_disk_that_fills_up_under_preprocess_leaves_the_dataset_that_was_there(
    spark: SparkSession, tmp_path: Path
) -> None:
    small = write_split(tmp_path / "a", [context("k")], [impression("1", "k")])
    large = write_split(
        tmp_path / "b",
        [context(f"c{c}") for c in range(800)],
        [impression(f"{c}-{i}", f"c{c}", token("205", f"{i}")) for c in range(800) for i in range(90)],
    )
    with small_disk(tmp_path / "out", 200) as disk:
        before = preprocess(spark, config_for(tmp_path, {"test": small}))
        with pytest.raises(UnwritableError, match=r"no room to write paths\.dataset .*/out/dataset, which "):
            preprocess(spark, config_for(tmp_path, {"test": large}))
        assert read_manifest(f"{disk}/dataset") == before
        assert [path.name for path in disk.iterdir()] == ["dataset"]
