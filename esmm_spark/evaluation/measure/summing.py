"""Sums for metrics: those of AUCs over ranges of scores, those of all others over ranges of groups.

A task returns a few vectors per ranking, however many impressions it has read.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from esmm_spark.evaluation.kernels.gathering import count_target, gather_target
from esmm_spark.evaluation.kernels.ordering import sorted_order
from esmm_spark.evaluation.kernels.sweep import SortedPass, Swept
from esmm_spark.evaluation.kernels.weights import WeightTable, num_columns, poisson_weights
from esmm_spark.evaluation.measure.blocks import ColumnBlock, JoinedBlocks
from esmm_spark.evaluation.measure.curves import CELL_BORDERS
from esmm_spark.evaluation.measure.layout import Job
from esmm_spark.evaluation.measure.metrics import GroupedScores, sums_of
from esmm_spark.evaluation.measure.targets import Ranking

# Impressions whose sorted copies are in memory at a time.
_CHUNK_IMPRESSIONS = 1 << 17
# Points of a ROC curve along either axis, of each part and of all parts together.
_POINTS_OF_PART, _POINTS_OF_ALL, _LEAST_POINTS = 200, 20_000, 20
# Groups whose weights are made at a time: so many cells of float64.
_CELLS_AT_ONCE = 1 << 18
NUM_GROUPS = "groups"


class Vector(NamedTuple):
    """Partial sums that a task returns.

    Attributes:
        part: whose.
        key: of what: a ranking's name and a field's.
        values: float64 [any].
    """

    part: int
    key: str
    values: Any


@lru_cache(maxsize=1)
def _weight_table(num_samples: int, seed: int) -> WeightTable:
    """Returns the worker's table, which its later tasks find filled."""
    return WeightTable(num_samples, seed)


def rank_part(part: int, blocks: Iterator[ColumnBlock], job: Job) -> Iterator[Vector]:
    """Yields the fields of `Swept` of each of the scan's rankings that has impressions in this part."""
    place = job.scan_of(part)
    scan = job.scans[place]
    joined = JoinedBlocks(job.rank_layout(scan))
    for block in blocks:
        joined.add(block.content)
    scores, groups, codes = joined.columns()
    order = sorted_order(scores)
    num_parts = len(job.splitters[place]) + 1
    points = min(_POINTS_OF_PART, max(_LEAST_POINTS, _POINTS_OF_ALL // num_parts))
    table = _weight_table(job.num_samples, job.seed)
    for bit, target in enumerate(scan.targets):
        swept = _sweep((scores, groups, codes), 2 * bit, order, points, table)
        if swept is not None:
            name = Ranking(scan.series, target).name
            for field, values in zip(Swept._fields, swept, strict=True):
                yield Vector(part, f"{name}/{field}", np.ravel(values).astype(np.float64))


def _sweep(columns: Any, shift: int, order: Any, points: int, table: WeightTable) -> Swept | None:
    """Returns the sums of one target's impressions in their order; None where none counts.

    `columns` are scores, groups and codes; in the latter the target's bits begin at `shift`.
    """
    impressions, positives = count_target(columns[2], shift)
    if impressions == 0:
        return None
    running = SortedPass(table.weights.shape[1], impressions, positives, points, CELL_BORDERS)
    step = min(_CHUNK_IMPRESSIONS, table.capacity)
    taken: tuple[Any, ...] = np.empty(step), np.empty(step, np.int64), np.empty(step, np.bool_)
    for start in range(0, len(order), step):
        count = gather_target(order[start : start + step], columns, shift, taken)
        if count:
            scores, groups, labels = (column[:count] for column in taken)
            running.add(scores, labels, table.places_of(groups), table.weights)
    return running.finish()


def group_part(part: int, blocks: Iterator[ColumnBlock], job: Job) -> Iterator[Vector]:
    """Yields `[1 + B]` weighted sums over the part's groups, and their number."""
    joined = JoinedBlocks(job.group_layout())
    for block in blocks:
        joined.add(block.content)
    groups, *columns = joined.columns()
    order = sorted_order(groups)
    groups = groups[order]
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    codes = dict(zip((score for score, _ in job.targets_by_score), columns, strict=False))
    scores = columns[len(codes) :]
    names: list[str] = []
    sums: list[Any] = []
    for scan, column in zip(job.scans, scores, strict=True):
        ordered, code = column[order].astype(np.float64), codes[scan.score][order]
        for bit, target in enumerate(scan.targets):
            own = (code >> np.uint8(2 * bit)) & np.uint8(3)
            grouped = GroupedScores(ordered, own == 2, own > 0, starts)
            name = Ranking(scan.series, target).name
            for what, values in grouped.sums(sums_of(target.kinds)).items():
                names.append(f"{name}/{what}")
                sums.append(values)
    totals = _weighted(groups[starts], np.stack(sums), job)
    for name, total in zip(names, totals, strict=True):
        yield Vector(part, name, total)
    yield Vector(part, NUM_GROUPS, np.array([float(len(starts))]))


def _weighted(groups: Any, sums: Any, job: Job) -> Any:
    """Returns `[M, 1 + B]`: the sums `[M, G]` of all groups, unweighted and in each bootstrap sample."""
    totals = np.zeros((len(sums), num_columns(job.num_samples)))
    step = max(1, _CELLS_AT_ONCE // totals.shape[1])
    for start in range(0, len(groups), step):
        weights = poisson_weights(groups[start : start + step], job.num_samples, job.seed)
        totals += sums[:, start : start + step] @ weights.astype(np.float64)
    return totals[:, : 1 + job.num_samples]


def swept_of(fields: Mapping[str, Any]) -> Swept:
    """Returns the sums that `rank_part` has taken apart, field by field."""
    shaped = dict(fields)
    for name in ("first_score", "last_score"):
        shaped[name] = float(fields[name][0])
    shaped["roc"], shaped["cells"] = fields["roc"].reshape(2, -1), fields["cells"].reshape(3, -1)
    return Swept(**shaped)
