"""Which split each line of a table belongs to."""

from pyspark.sql import Column
from pyspark.sql import functions as F

from esmm_spark.contracts.schemas.layout import SPLIT_PREFIX, TEST_PARTITION, TRAIN_PARTITION
from esmm_spark.contracts.tables.table_config import TableSplits
from esmm_spark.samples.hashing.held_out import SHARE_STEPS

TRAIN, TEST = (name.removeprefix(SPLIT_PREFIX) for name in (TRAIN_PARTITION, TEST_PARTITION))


def split_of_line(splits: TableSplits) -> Column:
    """Returns the split of each line of canonical ones: all lines of a context key are of one."""
    if splits.test_fraction == 0:
        return F.lit(TRAIN)
    # Another text than the held out groups of train are drawn by (samples/hashing/held_out.py).
    text_hash = F.xxhash64(F.concat(F.lit(f"test#{splits.seed}#"), "context_key"))
    is_test = F.pmod(text_hash, F.lit(SHARE_STEPS)) < round(splits.test_fraction * SHARE_STEPS)
    return F.when(is_test, TEST).otherwise(TRAIN)
