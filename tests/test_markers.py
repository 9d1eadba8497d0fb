"""`make test-fast` runs what is unmarked: such a test may start neither Spark nor ranks."""

import subprocess

import pytest


@pytest.mark.parametrize(
    "command", [["spark-submit", "--version"], ["/opt/bin/horovodrun", "-np", "2", "true"]]
)
def test_an_unmarked_test_that_starts_spark_or_ranks_fails(command: list[str]) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"starts .*: mark it with pytest\.mark\.(spark|horovod)"):
        subprocess.run(command)


def test_an_unmarked_test_that_starts_a_session_fails() -> None:
    from pyspark.sql import SparkSession

    if SparkSession.getActiveSession() is not None:
        pytest.skip("the session of other tests runs already")
    with pytest.raises(pytest.fail.Exception, match=r"spark-submit: mark it with pytest\.mark\.spark"):
        SparkSession.builder.getOrCreate()


@pytest.mark.spark
def test_a_marked_test_may_start_it() -> None:
    with pytest.raises(FileNotFoundError):
        subprocess.run(["/nowhere/spark-submit"])
