"""One shuffle of raw lines: a group's together, its context first, the groups in random order."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.samples.grouping import CONTEXT
from esmm_spark.samples.plan import SHARE_STEPS, HeldOut

_ALL_BUT_SIGN = 0x7FFF_FFFF_FFFF_FFFF
_SIGN = -0x8000_0000_0000_0000


def sort_lines(
    contexts: DataFrame, impressions: DataFrame, num_partitions: int, held_out: HeldOut | None
) -> DataFrame:
    """Returns all lines, sorted as `group_lines` wants them: columns `kind` and `line`.

    Groups are spread over partitions and sorted within them by a hash of their key, held out groups first.
    That is the order of the examples: the groups of a row group are a random sample, and no second shuffle is
    needed for it.

    Args:
        contexts: columns `key` and `line`, without blank lines.
        impressions: columns `key`, `line` and `kind`, without blank lines.
        num_partitions: how many.
        held_out: the groups that go to another partition of the dataset, if any.
    """
    lines = contexts.select("key", F.lit(CONTEXT).cast("tinyint").alias("kind"), "line").unionByName(
        impressions.select("key", F.col("kind").cast("tinyint"), "line")
    )
    return (
        lines.withColumn("place", place_of_group(held_out))
        .repartition(num_partitions, "place")
        # By key, too: two keys may share a place.
        .sortWithinPartitions("place", "key", "kind", "line")
        .select("kind", "line")
    )


def place_of_group(held_out: HeldOut | None) -> Column:
    """Returns bigint, the place of the group `key` in the order: negative if it is held out."""
    place = F.xxhash64("key").bitwiseAND(F.lit(_ALL_BUT_SIGN))
    if held_out is None:
        return place
    return F.when(is_held_out(held_out), place.bitwiseOR(F.lit(_SIGN))).otherwise(place)


def is_held_out(held_out: HeldOut) -> Column:
    """Returns whether the group `key` is held out."""
    text_hash = F.xxhash64(F.concat(F.lit(held_out.prefix), "key"))
    return F.pmod(text_hash, F.lit(SHARE_STEPS)) < held_out.threshold
