"""Fixtures over small scored data sets; `scored_data.py` makes them."""

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from esmm_spark.evaluation.measure.inputs import SCORES_SCHEMA, TRUTH_SCHEMA
from tests.evaluation.scored_data import ToFrame, simulate


@pytest.fixture(scope="session")
def data() -> pd.DataFrame:
    return simulate()


@pytest.fixture(scope="session")
def scores_frame(spark: SparkSession) -> ToFrame:
    """Makes a DataFrame of `SCORES_SCHEMA` of a pandas one."""

    def make(data: pd.DataFrame) -> DataFrame:
        return spark.createDataFrame(data[SCORES_SCHEMA.names], SCORES_SCHEMA)

    return make


@pytest.fixture(scope="session")
def truth_frame(spark: SparkSession) -> ToFrame:
    """Makes a DataFrame of `TRUTH_SCHEMA` of a pandas one."""
    return lambda truth: spark.createDataFrame(truth[TRUTH_SCHEMA.names], TRUTH_SCHEMA)
