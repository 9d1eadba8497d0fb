"""Spark's settings for few rows."""

import pytest
from pyspark.sql import SparkSession

from esmm_spark.spark.small_inputs import SMALL_BYTES, small_input_settings

pytestmark = pytest.mark.spark

KEYS = "spark.sql.codegen.wholeStage", "spark.sql.codegen.factoryMode", "spark.sql.shuffle.partitions"


def settings(spark: SparkSession) -> list[str | None]:
    return [spark.conf.get(key, None) for key in KEYS]


def test_small_inputs_alone_are_interpreted_and_the_settings_come_back(spark: SparkSession) -> None:
    before = settings(spark)
    with small_input_settings(spark, SMALL_BYTES + 1):
        assert settings(spark) == before
    with small_input_settings(spark, SMALL_BYTES):
        assert settings(spark) == ["false", "NO_CODEGEN", "2"]
    assert settings(spark) == before
