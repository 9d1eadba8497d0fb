"""Finds impression ids that stand under several contexts, and which line is kept.

Kept is, of all lines with the id that would be accepted, the one with the smallest (common feature index,
line), compared byte by byte. Lines with one id under one context are neighbours in the sorted lines, so the
grouping kernel sees them. Whether any stands under several contexts shows in the pass over all lines, by
hashes of 8 bytes (`lines/ids.py`). Only then the lines concerned are looked for, they and their contexts are
judged by the kernel, and the pass is made again with what was found.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from esmm_spark.logs.lines import CONTEXT, IMPRESSION, REPEATED_IMPRESSION
from esmm_spark.logs.raw_files import CanonicalLines, impression_id, impression_key
from esmm_spark.logs.reasons import ACCEPTED
from esmm_spark.samples.grouping.grouper import Grouper
from esmm_spark.samples.lines.merging import LineMerger, merged_lines
from esmm_spark.samples.lines.packing import texts_at
from esmm_spark.samples.lines.sorting import pack_frame, packing, sort_lines
from esmm_spark.samples.plan import GroupingPlan


def find_repeated(lines: CanonicalLines, plan: GroupingPlan, num_partitions: int) -> DataFrame:
    """Returns `id`, `key`, a record for each accepted impression id under a context where it isn't kept.

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
    contexts = (
        lines.contexts.where("key is not null")
        .join(impressions.select("key").distinct(), on="key", how="left_semi")
        .withColumn("kind", F.lit(CONTEXT))
    )

    def accepted_impressions(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        # Which bucket a value gets has no say in whether its line is accepted.
        no_vocabulary = {field.name: np.empty(0, dtype=np.int64) for field in plan.spec.fields}
        grouper = Grouper(plan.spec, plan.brought, no_vocabulary, 1, plan.labels_required)
        for found in merged_lines(batches, LineMerger()):
            for _ in grouper.take(found):
                pass
            places = np.flatnonzero((found.reason == ACCEPTED) & (found.kind != CONTEXT))
            texts = texts_at(found.data, found.starts[places], found.ends[places])
            yield pa.record_batch([texts], names=["line"])

    columns, num_labels = ("kind", "line"), len(plan.brought.tasks.names)
    both = contexts.select(*columns).unionByName(impressions.select(*columns))
    packed = pack_frame(both, packing(None, 0, num_labels))
    by_key = Window.partitionBy("id").orderBy("key")
    return (
        sort_lines(packed, num_partitions)
        .mapInArrow(accepted_impressions, "line string")
        .select(impression_id().alias("id"), impression_key(num_labels).alias("key"))
        .withColumn("number", F.row_number().over(by_key))
        .where("number > 1")
        .select("id", "key")
    )


def mark_kinds(impressions: DataFrame, repeated: DataFrame | None) -> DataFrame:
    """Returns the impressions' `line` and `kind`; `repeated` is from `find_repeated`, or None."""
    if repeated is None:
        return impressions.select("line", F.lit(IMPRESSION).alias("kind"))
    kind = F.when(F.col("is_repeated"), F.lit(REPEATED_IMPRESSION)).otherwise(F.lit(IMPRESSION))
    return (
        impressions.withColumn("id", impression_id())
        .join(repeated.withColumn("is_repeated", F.lit(True)), on=["id", "key"], how="left")
        .select("line", kind.alias("kind"))
    )


def _by_id(impressions: DataFrame) -> DataFrame:
    """Returns a record per id of lines that aren't blank: its hash, and the range of its keys' hashes."""
    # By hashes of 8 bytes: two ids of one hash are looked at in vain, which changes no result.
    key_hash = F.xxhash64("key")
    return (
        impressions.where("key is not null")
        .groupBy(F.xxhash64(impression_id()).alias("id_hash"))
        .agg(F.min(key_hash).alias("lowest_key_hash"), F.max(key_hash).alias("highest_key_hash"))
    )


def _has_several_contexts() -> Column:
    return F.col("lowest_key_hash") != F.col("highest_key_hash")
