"""The formats of raw logs that come in splits: each is a function from a split's files to canonical lines."""

from collections.abc import Callable

from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.sample_config import SplitLogs
from esmm_spark.logs import raw_files
from esmm_spark.logs.raw_files import CanonicalLines

ReadSplit = Callable[[SparkSession, SplitLogs], CanonicalLines]

# `logs.format` -> its reader. Event logs come in days, not in splits: `events/` reads them.
FORMATS: dict[str, ReadSplit] = {"aliccp": raw_files.read_split}


def reader_of(name: str) -> ReadSplit:
    """Returns the reader of the format `name`. Raises ConfigError where there is none."""
    if name not in FORMATS:
        raise ConfigError(f"logs.format {name} has no reader of splits: it may be {', '.join(FORMATS)}")
    return FORMATS[name]
