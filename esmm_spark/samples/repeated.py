"""Impression ids that stand under several contexts: which line is kept.

Kept is, of all lines with the id that would be accepted, the one with the smallest (common feature index,
line), compared byte by byte. Lines with one id under one context are neighbours in the sorted lines, so the
grouping kernel sees them. Here are found those under several contexts, in a scan of the skeleton that counts
its lines as well. Only if there are any, the lines concerned and their contexts are judged by the kernel,
before the pass over all lines.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from esmm_spark.features import FeatureSpec
from esmm_spark.logs.raw_files import CanonicalLines, impression_id, impression_key
from esmm_spark.logs.reasons import ACCEPTED
from esmm_spark.samples.grouper import Grouper
from esmm_spark.samples.grouping import CONTEXT, IMPRESSION, REPEATED_IMPRESSION
from esmm_spark.samples.sorting import sort_lines


class Scan(NamedTuple):
    """What the first look at one file says.

    Attributes:
        lines: that are not blank.
        blank_lines: that are.
        bytes: of all lines.
        repeated: ids, by their hash, under several contexts; 0 for contexts.
    """

    lines: int
    blank_lines: int
    bytes: int
    repeated: int


def scan_contexts(contexts: DataFrame) -> Scan:
    """Returns the number of lines of the common features."""
    return _one_row(
        contexts.agg(
            F.count("key").alias("lines"),
            F.count_if(F.col("key").isNull()).alias("blank_lines"),
            _sum(F.octet_length("line")).alias("bytes"),
            F.lit(0).alias("repeated"),
        )
    )


def scan_impressions(impressions: DataFrame) -> Scan:
    """Returns the number of lines of the skeleton, and of ids that stand under several contexts."""
    return _one_row(
        _by_id(impressions).agg(
            _sum(F.when(F.col("id_hash").isNotNull(), F.col("lines"))).alias("lines"),
            _sum(F.when(F.col("id_hash").isNull(), F.col("lines"))).alias("blank_lines"),
            _sum(F.col("bytes")).alias("bytes"),
            F.count_if(_has_several_contexts()).alias("repeated"),
        )
    )


def find_repeated(
    lines: CanonicalLines, spec: FeatureSpec, labels_required: bool, num_partitions: int
) -> DataFrame:
    """Returns `id`, `key`, a row for each accepted impression id under a context where it isn't kept.

    Worked example: id 7 is accepted under contexts a and b, and stands in a line under c that doesn't parse.
    Returned is (7, b): the line under a is kept, the one under c is rejected for what is wrong with it.
    """
    repeated = _by_id(lines.impressions).where(_has_several_contexts()).select("id_hash")
    impressions = (
        lines.impressions.where("key is not null")
        .withColumn("id_hash", F.xxhash64(impression_id()))
        .join(repeated, on="id_hash", how="left_semi")
        .withColumn("kind", F.lit(IMPRESSION))
    )
    contexts = lines.contexts.where("key is not null").join(
        impressions.select("key").distinct(), on="key", how="left_semi"
    )

    def accepted_impressions(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        # Which bucket a value gets has no say in whether its line is accepted.
        no_vocabulary = {field.name: np.empty(0, dtype=np.int64) for field in spec.fields}
        grouper = Grouper(spec, no_vocabulary, 1, labels_required)
        for batch in batches:
            for _ in grouper.take(batch):
                pass
            kinds = batch.column("kind").to_numpy()
            places = np.flatnonzero((grouper.reasons == ACCEPTED) & (kinds != CONTEXT))
            yield pa.record_batch([batch.column("line").take(pa.array(places))], names=["line"])

    by_key = Window.partitionBy("id").orderBy("key")
    return (
        sort_lines(contexts, impressions, num_partitions, held_out=None)
        .mapInArrow(accepted_impressions, "line string")
        .select(impression_id().alias("id"), impression_key().alias("key"))
        .withColumn("number", F.row_number().over(by_key))
        .where("number > 1")
        .select("id", "key")
    )


def mark_kinds(impressions: DataFrame, repeated: DataFrame | None) -> DataFrame:
    """Returns the lines that aren't blank with their `kind`; `repeated` is from `find_repeated`, or None."""
    impressions = impressions.where("key is not null")
    if repeated is None:
        return impressions.withColumn("kind", F.lit(IMPRESSION))
    kind = F.when(F.col("is_repeated"), F.lit(REPEATED_IMPRESSION)).otherwise(F.lit(IMPRESSION))
    return (
        impressions.withColumn("id", impression_id())
        .join(repeated.withColumn("is_repeated", F.lit(True)), on=["id", "key"], how="left")
        .select("key", "line", kind.alias("kind"))
    )


def _by_id(impressions: DataFrame) -> DataFrame:
    """Returns a row per id: hash (null for blank lines), lines, their bytes, range of its keys' hashes."""
    # By hashes of 8 bytes: two ids of one hash are looked at in vain, which changes no result.
    id_hash = F.when(F.col("key").isNotNull(), F.xxhash64(impression_id()))
    key_hash = F.xxhash64("key")
    return impressions.groupBy(id_hash.alias("id_hash")).agg(
        F.count(F.lit(1)).alias("lines"),
        _sum(F.octet_length("line")).alias("bytes"),
        F.min(key_hash).alias("lowest_key_hash"),
        F.max(key_hash).alias("highest_key_hash"),
    )


def _has_several_contexts() -> Column:
    return F.col("id_hash").isNotNull() & (F.col("lowest_key_hash") != F.col("highest_key_hash"))


def _sum(values: Column) -> Column:
    return F.coalesce(F.sum(values), F.lit(0))


def _one_row(totals: DataFrame) -> Scan:
    row = totals.collect()[0]
    return Scan(**{name: int(row[name]) for name in Scan._fields})
