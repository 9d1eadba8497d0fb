"""A small simulated folder in many parts."""

from collections.abc import Iterator

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.simulation import parts
from esmm_spark.simulation.simulate import simulate
from tests.simulation.parsed_log import NUM_GROUPS, SEED, RawLog, Simulated, read_split


@pytest.fixture(scope="session")
def small_parts() -> Iterator[None]:
    """Parts of one block instead of 16: few groups make many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "BLOCKS_PER_PART", 1)
        yield


@pytest.fixture(scope="session")
def simulated(spark: SparkSession, small_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    folder = tmp_path_factory.mktemp("simulated") / "raw"
    return Simulated(folder, simulate(spark, str(folder), NUM_GROUPS, SEED, "demo"))


@pytest.fixture(scope="session")
def logs(simulated: Simulated) -> dict[str, RawLog]:
    return {split: read_split(simulated.folder, split) for split in ("train", "test")}


@pytest.fixture(scope="session")
def truth(simulated: Simulated) -> pd.DataFrame:
    return pq.read_table(simulated.folder / "truth.parquet").to_pandas()
