"""Log loss, calibration ratio and GAUC: ratios of sums over impression groups, with bootstrap replicates.

All of them are (sum over groups of a numerator) / (sum over groups of a denominator). Spark makes one row of
sums per group; a resample of groups is a weighted sum of those rows, so that all replicates of all metrics
are one product of matrices per Arrow batch. Legend: G groups, M sums, B bootstrap samples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from esmm_spark.evaluation.measure.estimates import Estimate, ratio
from esmm_spark.evaluation.measure.targets import LabelCounts, Ranking
from esmm_spark.evaluation.measure.weights import poisson_weights, with_unit_weight

Sums = Mapping[str, NDArray[np.float64]]

# The spacing of float32 just below 1: a float32 score can't be nearer to 1 than this, so 0 and 1 are read as
# this far from certainty, and one sure mistake costs 16.6 nats instead of infinity.
LOG_LOSS_EPSILON = 2.0**-24


def weighted_sums(groups: DataFrame, num_samples: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Returns the sum of every column of `groups` but group_hash: `[1 + B]`, column 0 unweighted.

    Args:
        groups: one row per group: group_hash bigint and M double columns without nulls.
        num_samples: B.
        seed: of the bootstrap.
    """
    names = [name for name in groups.columns if name != "group_hash"]

    def sum_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        totals = np.zeros((len(names), 1 + num_samples))
        for batch in batches:
            hashes = batch.column("group_hash").to_numpy()
            weights = with_unit_weight(poisson_weights(hashes, num_samples, seed)).astype(np.float64)
            columns = np.stack([batch.column(name).to_numpy() for name in names])  # [M, G]
            totals += columns @ weights
        yield pa.RecordBatch.from_arrays(
            [pa.array(range(len(names)), pa.int32()), pa.array(list(totals), pa.list_(pa.float64()))],
            names=["position", "sums"],
        )

    parts = groups.mapInArrow(sum_partition, "position int, sums array<double>").toArrow()
    totals = np.zeros((len(names), 1 + num_samples))
    for part in parts.to_pylist():
        totals[part["position"]] += part["sums"]
    return dict(zip(names, totals, strict=True))


def group_sums(aligned: DataFrame, rankings: Sequence[Ranking]) -> DataFrame:
    """Returns one row per group: per ranking the sums of log loss, predictions, labels and impressions."""
    sums: list[Column] = [F.lit(1.0).alias("groups")]
    for ranking in rankings:
        label = F.expr(ranking.target.label)
        score = F.col(ranking.score)
        is_labelled = label.isNotNull()
        clipped = F.greatest(F.least(score, F.lit(1 - LOG_LOSS_EPSILON)), F.lit(LOG_LOSS_EPSILON))
        loss = F.when(label == 1, -F.log(clipped)).when(label == 0, -F.log1p(-clipped))
        summed = {
            "loss": loss,
            "predictions": F.when(is_labelled, score),
            "labels": label,
            "impressions": F.when(is_labelled, F.lit(1)),
        }
        sums += [
            F.coalesce(F.sum(column.cast("double")), F.lit(0.0)).alias(f"{ranking.name}_{what}")
            for what, column in summed.items()
        ]
    return aligned.groupBy("group_hash").agg(*sums)


def group_aucs(aligned: DataFrame, rankings: Sequence[Ranking]) -> DataFrame:
    """Returns one row per group: per ranking AUC x impressions, impressions and 1, or 0 with one class.

    Spark counts negatives below each distinct score of a group with a window over that group: no group is
    ever held by Python, and a group may be larger than memory.
    """
    rows = [
        F.struct(
            F.lit(index).alias("ranking"),
            F.col(ranking.score).alias("score"),
            F.expr(ranking.target.label).cast("int").alias("label"),
        )
        for index, ranking in enumerate(rankings)
    ]
    scores = (
        aligned.select("group_hash", F.inline(F.array(*rows)))
        .filter(F.col("label").isNotNull())
        # By the group alone, so that the window and the three aggregations share this one shuffle.
        .repartition("group_hash")
        .groupBy("group_hash", "ranking", "score")
        .agg(F.sum("label").alias("positives"), F.sum(1 - F.col("label")).alias("negatives"))
    )
    below = (
        Window.partitionBy("group_hash", "ranking")
        .orderBy("score")
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    negatives_below = F.coalesce(F.sum("negatives").over(below), F.lit(0))
    wins2 = F.col("positives") * (2 * negatives_below + F.col("negatives"))
    aucs = (
        scores.withColumn("wins2", wins2)
        .groupBy("group_hash", "ranking")
        .agg(*(F.sum(name).alias(name) for name in ("wins2", "positives", "negatives")))
    )
    has_both = (F.col("positives") > 0) & (F.col("negatives") > 0)
    auc = F.col("wins2") / (2 * F.col("positives") * F.col("negatives"))
    impressions = F.col("positives") + F.col("negatives")
    sums = []
    for index, ranking in enumerate(rankings):
        counts = has_both & (F.col("ranking") == index)
        summed = {"auc": auc * impressions, "impressions": impressions, "groups": F.lit(1)}
        sums += [
            F.sum(F.when(counts, column.cast("double")).otherwise(F.lit(0.0))).alias(f"{ranking.name}_{what}")
            for what, column in summed.items()
        ]
    return aucs.groupBy("group_hash").agg(*sums)


def log_loss(sums: Sums, ranking: Ranking, labels: LabelCounts) -> Estimate:
    """Returns the mean log loss in nats per impression, scores clipped to `LOG_LOSS_EPSILON` from 0 and 1."""
    name = ranking.name
    return ratio(sums[f"{name}_loss"], sums[f"{name}_impressions"], "no labelled impression", _counts(labels))


def calibration(sums: Sums, ranking: Ranking, labels: LabelCounts) -> Estimate:
    """Returns sum of predictions / sum of labels: above 1 the model promises too much.

    Source: He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014, section 3
    (calibration).
    """
    name = ranking.name
    return ratio(sums[f"{name}_predictions"], sums[f"{name}_labels"], "no positive label", _counts(labels))


def gauc(sums: Sums, ranking: Ranking) -> Estimate:
    """Returns the mean of the groups' AUCs, weighted by their impressions, over groups with both classes.

    Source: Zhu et al., "Optimized Cost per Click in Taobao Display Advertising", KDD 2017, equation 13.
    """
    name = ranking.name
    counts = {what: int(sums[f"{name}_{what}"][0]) for what in ("groups", "impressions")}
    return ratio(sums[f"{name}_auc"], sums[f"{name}_impressions"], "no group has both labels 0 and 1", counts)


def _counts(labels: LabelCounts) -> dict[str, int]:
    return {"impressions": labels.impressions, "positives": labels.positives}
