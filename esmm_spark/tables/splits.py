"""Which split each line of a table belongs to."""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.schemas.split_names import TEST, TRAIN, VALIDATION, SplitName
from esmm_spark.contracts.tables.splits import VALUES_BY_DEFAULT, TableSplits
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.reading.local_days import start_of_day_us
from esmm_spark.reading.times import microseconds_of
from esmm_spark.reading.values import quoted, text_value
from esmm_spark.samples.hashing.held_out import SHARE_STEPS


def split_of_line(named: DataFrame, table: TableLog) -> Column:
    """Returns the split of each line, null where `splits.column` names none.

    Args:
        named: the table's sources as columns, and `folder_day`.
        table: the config.
    """
    splits = table.splits
    if splits.column is not None:
        return _by_value(named, splits)
    if splits.is_by_day:
        return _by_day(named, table)
    if splits.test_fraction > 0:
        return _by_share(named, table)
    return F.lit(TRAIN)


def wanted_splits(splits: TableSplits) -> list[SplitName]:
    """Returns the splits that a config asks for: each must have lines."""
    if splits.column is not None:
        # Without values of its own it may have no lines for validation, as the other rules may.
        named = [split for split, values in splits.values.items() if values]
        return [TRAIN, TEST] if splits.values == VALUES_BY_DEFAULT else named
    asked = {
        TRAIN: True,
        VALIDATION: splits.validation_from is not None or VALIDATION in splits.paths,
        TEST: splits.test_from is not None or splits.test_fraction > 0 or TEST in splits.paths,
    }
    return [split for split, is_asked in asked.items() if is_asked]


def test_prefix(splits: TableSplits) -> str:
    """Returns what stands before a key in the text whose hash decides whether its lines are of test."""
    # Another text than the held out groups of train are drawn by (samples/hashing/held_out.py).
    return f"test#{splits.seed}#"


def test_threshold(splits: TableSplits) -> int:
    """Returns the share of the test split in steps of 1 / SHARE_STEPS."""
    return round(splits.test_fraction * SHARE_STEPS)


def _by_value(named: DataFrame, splits: TableSplits) -> Column:
    text = text_value(F.col(quoted("splits.column")), named.schema["splits.column"].dataType)
    found = F.lit(None).cast("string")
    for split, values in splits.values.items():
        found = F.when(text.isin(*values), split).otherwise(found)
    return found


def _by_day(named: DataFrame, table: TableLog) -> Column:
    splits = table.splits
    if table.day_folders is not None:
        day = F.col("folder_day")
        bounds = {split: F.lit(first) for split, first in _firsts(splits).items()}
    else:
        day = microseconds_of(named, "time", table)
        bounds = {
            split: F.lit(start_of_day_us(first, table.time_zone)) for split, first in _firsts(splits).items()
        }
    found = F.lit(TRAIN)
    # Validation before test: what is from the later day on is of the later one.
    for split, first in bounds.items():
        found = F.when(day >= first, split).otherwise(found)
    return found


def _firsts(splits: TableSplits) -> dict[str, date]:
    firsts = {VALIDATION: splits.validation_from, TEST: splits.test_from}
    return {split: first for split, first in firsts.items() if first is not None}


def _by_share(named: DataFrame, table: TableLog) -> Column:
    """Returns the split of a random share of the context keys: all lines of a key are of one."""
    key = "context_key" if table.context_key is not None else "impression_id"
    text = text_value(F.col(quoted(key)), named.schema[key].dataType)
    text_hash = F.xxhash64(F.concat(F.lit(test_prefix(table.splits)), text))
    is_test = F.pmod(text_hash, F.lit(SHARE_STEPS)) < test_threshold(table.splits)
    return F.when(is_test, TEST).otherwise(TRAIN)
