"""Exact AUCs with bootstrap replicates over scores of any size: Spark sorts, `ranking.py` sums.

Every ranking (series x target) becomes rows (ranking, score, label, group_hash) of one frame, which Spark
sorts once, by ranges over as many partitions as it likes. A range keeps equal scores together. Each
partition is summed in one pass with memory bounded by `_BLOCK_CELLS`, and hands a few vectors of 1 + B
numbers to the driver, which joins them.

Cost on one core: per ranking and million impressions about 1 s of sorting and, at B = 200, 1 s of weighted
sums.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.evaluation.measure.ranking import RankedPart, SortedPass, join_parts
from esmm_spark.evaluation.measure.targets import LabelCounts, Ranking
from esmm_spark.evaluation.measure.weights import poisson_weights, with_unit_weight

# Impressions x (1 + B) whose weights are in memory at a time: 8 MiB of weights, at worst 200 MiB of sums.
_BLOCK_CELLS = 1 << 23
_ROC_STRIDES = 200  # strides along either axis of a ROC curve

# One row per ranking and partition: the fields of RankedPart.
_PART_SCHEMA = pa.schema(
    [
        pa.field("ranking", pa.int32()),
        pa.field("first_score", pa.float64()),
        pa.field("last_score", pa.float64()),
        pa.field("wins2", pa.list_(pa.float64())),
        pa.field("positives", pa.list_(pa.float64())),
        pa.field("negatives", pa.list_(pa.float64())),
        pa.field("roc_positives", pa.list_(pa.float64())),
        pa.field("roc_negatives", pa.list_(pa.float64())),
    ]
)
_PART_DDL = (
    "ranking int, first_score double, last_score double, wins2 array<double>, positives array<double>, "
    "negatives array<double>, roc_positives array<double>, roc_negatives array<double>"
)


def rank(
    aligned: DataFrame,
    rankings: Sequence[Ranking],
    labels: dict[str, LabelCounts],
    num_samples: int,
    seed: int,
) -> dict[Ranking, RankedPart]:
    """Returns the sums of every ranking; one without any labelled impression is left out.

    Args:
        aligned: group_hash bigint, the rankings' scores, and the columns of the targets' labels.
        rankings: what to compute.
        labels: target name -> its counts, which the sums must meet.
        num_samples: bootstrap samples, B.
        seed: of the bootstrap.

    Raises:
        CountMismatchError: not every labelled impression was ranked.
    """
    wanted = [ranking for ranking in rankings if labels[ranking.target.name].impressions > 0]
    if not wanted:
        return {}
    strides = [_roc_strides(labels[ranking.target.name]) for ranking in wanted]

    def rank_partition(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _rank_partition(batches, strides, num_samples, seed)

    parts = (
        aligned.transform(lambda frame: _ranking_rows(frame, wanted))
        .repartitionByRange("ranking", "score")
        .sortWithinPartitions("ranking", "score")
        .mapInArrow(rank_partition, _PART_DDL)
        .toArrow()
    )
    by_ranking: dict[int, list[RankedPart]] = {}
    for row in parts.to_pylist():
        index = row.pop("ranking")
        by_ranking.setdefault(index, []).append(_part(row))
    totals = {wanted[index]: join_parts(found) for index, found in by_ranking.items()}
    _check_counts(wanted, totals, labels)
    return totals


def _ranking_rows(aligned: DataFrame, rankings: Sequence[Ranking]) -> DataFrame:
    """Returns rows (ranking, score, label, group_hash), one per ranking and labelled impression."""
    rows = [
        F.struct(
            F.lit(index).alias("ranking"),
            F.col(ranking.score).cast("double").alias("score"),
            (F.expr(ranking.target.label) == 1).alias("label"),
        )
        for index, ranking in enumerate(rankings)
    ]
    return aligned.select("group_hash", F.inline(F.array(*rows))).filter(F.col("label").isNotNull())


def _rank_partition(
    batches: Iterable[pa.RecordBatch], strides: Sequence[tuple[int, int]], num_samples: int, seed: int
) -> Iterator[pa.RecordBatch]:
    """Yields one row of `_PART_SCHEMA` per ranking in a partition sorted by ranking and score."""
    current, index = None, -1
    for table in _blocks(batches, max(1, _BLOCK_CELLS // (1 + num_samples))):
        rankings = table["ranking"].to_numpy()
        scores, labels = table["score"].to_numpy(), table["label"].to_numpy()
        groups, group_of_row = np.unique(table["group_hash"].to_numpy(), return_inverse=True)
        group_weights = with_unit_weight(poisson_weights(groups, num_samples, seed))
        starts = np.flatnonzero(np.concatenate([[True], rankings[1:] != rankings[:-1]]))
        for start, stop in zip(starts, [*starts[1:], len(rankings)], strict=True):
            if current is None or rankings[start] != index:
                if current is not None:
                    yield _part_row(index, current.finish())
                index = int(rankings[start])
                current = SortedPass(1 + num_samples, strides[index])
            current.add(scores[start:stop], labels[start:stop], group_weights[group_of_row[start:stop]])
    if current is not None:
        yield _part_row(index, current.finish())


def _blocks(batches: Iterable[pa.RecordBatch], max_rows: int) -> Iterator[pa.Table]:
    """Yields the rows of `batches` in their order, in tables of 1 to about `max_rows` rows."""
    pending: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        for start in range(0, batch.num_rows, max_rows):
            piece = batch.slice(start, max_rows)
            if pending and num_rows + piece.num_rows > max_rows:
                yield pa.Table.from_batches(pending)
                pending, num_rows = [], 0
            pending.append(piece)
            num_rows += piece.num_rows
    if pending:
        yield pa.Table.from_batches(pending)


def _part_row(index: int, part: RankedPart) -> pa.RecordBatch:
    values = [index, *(getattr(part, name) for name in _PART_SCHEMA.names[1:])]
    arrays = [pa.array([value], type=field.type) for value, field in zip(values, _PART_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_PART_SCHEMA)


def _part(row: dict[str, Any]) -> RankedPart:
    vectors = {
        name: np.array(value, dtype=np.float64) for name, value in row.items() if isinstance(value, list)
    }
    return RankedPart(first_score=row["first_score"], last_score=row["last_score"], **vectors)


def _roc_strides(counts: LabelCounts) -> tuple[int, int]:
    """Returns the negatives and positives between two points of a ROC curve."""
    negatives = counts.impressions - counts.positives
    return max(1, negatives // _ROC_STRIDES), max(1, counts.positives // _ROC_STRIDES)


def _check_counts(
    rankings: Sequence[Ranking], totals: dict[Ranking, RankedPart], labels: dict[str, LabelCounts]
) -> None:
    for ranking in rankings:
        expected = labels[ranking.target.name]
        total = totals.get(ranking)
        positives = 0 if total is None else int(total.positives[0])
        impressions = 0 if total is None else positives + int(total.negatives[0])
        if (impressions, positives) != (expected.impressions, expected.positives):
            raise CountMismatchError(
                f"{ranking.name}: {impressions} impressions with {positives} positives were ranked, "
                f"{expected.impressions} with {expected.positives} were read"
            )
