"""Joins all sides of a range of impression ids by impression, and proves that none is lost.

Every side's impressions are sorted by id and merged, so duplicates, missing and surplus ones are found at
once. Where anything is wrong nothing but its counts goes on.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from esmm_spark.contracts.schemas.targets import Target
from esmm_spark.evaluation.kernels.gathering import ranges_of
from esmm_spark.evaluation.kernels.matching import NOT_FOUND, count_repeated, id_order, match
from esmm_spark.evaluation.measure.blocks import ColumnBlock, JoinedBlocks, split
from esmm_spark.evaluation.measure.layout import GROUP, NOTES_ON, RANK, Job
from esmm_spark.evaluation.measure.plan import parts_by_hash
from esmm_spark.evaluation.measure.sides import (
    NOTES,
    SIDES,
    SideColumns,
    bad_labels,
    bad_scores,
    fill_entire,
    fill_labels,
    side_columns,
)
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE


@dataclass
class Side:
    """One side's impressions of a range of ids, by ascending id.

    Attributes:
        ids: two hashes, uint64 [N] each.
        group: int64 [N]; of the truth none.
        scores: name -> [N].
        labels: name -> int8 [N].
    """

    ids: tuple[Any, Any]
    group: Any
    scores: dict[str, Any]
    labels: dict[str, Any]

    def taken(self, places: Any) -> "Side":
        """Returns the impressions at `places`."""
        scores = {name: column[places] for name, column in self.scores.items()}
        labels = {name: column[places] for name, column in self.labels.items()}
        ids = self.ids[0][places], self.ids[1][places]
        return Side(ids, None if self.group is None else self.group[places], scores, labels)


def align_part(part: int, blocks: Iterator[ColumnBlock], job: Job) -> Iterator[ColumnBlock]:
    """Yields the impressions of a part for what ranks and what sums by group, and notes for the driver.

    Args:
        part: a range of ids.
        blocks: of this part, `reading.read_share`'s.
        job: what is evaluated.
    """
    joined: dict[str, JoinedBlocks] = {}
    layouts = {name: side_columns(name, job.tasks) for name in job.series}
    for block in blocks:
        if block.kind == NOTES:
            yield ColumnBlock(0, NOTES_ON, block.source, bytes(block.content))
            continue
        series = SIDES[block.kind]
        if series not in joined:
            joined[series] = JoinedBlocks(layouts[series].layout)
        joined[series].add(block.content)
    sides = {
        name: _side(joined.get(name) or JoinedBlocks(layouts[name].layout), layouts[name])
        for name in job.series
    }
    counts, aligned = _align(sides, job)
    yield ColumnBlock(0, NOTES_ON, part, json.dumps({"counts": counts}).encode())
    if aligned is not None:
        scores, labels = aligned
        yield from _ranked(part, sides[MODEL].group, scores, labels, job)
        yield from _grouped(part, sides[MODEL].group, scores, labels, job)


def _side(blocks: JoinedBlocks, columns: SideColumns) -> Side:
    first, second, *rest = blocks.columns()
    order = id_order(first, second)
    first, second, *rest = (column[order] for column in (first, second, *rest))
    group = rest.pop(0) if columns.has_group else None
    scores = dict(zip(columns.scores, rest, strict=False))
    labels = dict(zip(columns.labels, rest[len(columns.scores) :], strict=True))
    return Side((first, second), group, scores, labels)


# series -> score's name -> [N]; label's name -> int8 [N]
Aligned = tuple[dict[str, dict[str, Any]], dict[str, Any]]


def _align(sides: Mapping[str, Side], job: Job) -> tuple[dict[str, int], Aligned | None]:
    """Returns the counts of what is wrong, and the impressions; None where anything is."""
    model = sides[MODEL]
    duplicates, repetitions = count_repeated(model.ids)
    counts = {"impressions": len(model.ids[0])}
    wrong = {"model_duplicates": duplicates, "model_repetitions": repetitions}
    taken = {MODEL: model}
    for series, side in sides.items():
        if series == MODEL:
            continue
        found = match(model.ids, side.ids)
        wrong[f"{series}_missing"] = found.missing
        wrong[f"{series}_duplicates"] = found.duplicates
        wrong[f"{series}_repetitions"] = found.repetitions
        if series == BASELINE:
            wrong["baseline_surplus"] = found.surplus
            wrong["baseline_duplicates"] += found.surplus_duplicates
            wrong["baseline_repetitions"] += found.surplus_repetitions
        taken[series] = side.taken(found.places[found.places != NOT_FOUND])
    for series, side in taken.items():
        wrong[f"{series}_bad_scores"] = int(np.count_nonzero(bad_scores(side.scores)))
        wrong[f"{series}_bad_labels"] = _count_bad_labels(series, side, job)
    labels = {name: fill_labels(taken[name].labels, job.tasks) for name in taken if name != ORACLE}
    if BASELINE in taken and not wrong["baseline_missing"]:
        differs = np.zeros(len(model.ids[0]), dtype=bool)
        for name in job.tasks.names:
            differs |= labels[MODEL][name] != labels[BASELINE][name]
        wrong["differing_labels"] = int(np.count_nonzero(differs))
    counts |= wrong
    if any(wrong.values()):
        return counts, None
    all_labels = dict(labels[MODEL])
    scores = {name: side.scores for name, side in taken.items()}
    if ORACLE in taken:
        scores[ORACLE] = fill_entire(scores[ORACLE], job.tasks)
        all_labels |= taken[ORACLE].labels
    roots = [name for name in job.tasks.names if job.tasks.parent(name) is None]
    counts["unlabelled"] = int(np.count_nonzero(np.all([all_labels[name] < 0 for name in roots], axis=0)))
    for target in job.targets:
        is_known, is_positive = _label_of(target, all_labels)
        counts[f"labelled_{target.name}"] = int(np.count_nonzero(is_known))
        counts[f"positives_{target.name}"] = int(np.count_nonzero(is_positive))
    return counts, (scores, all_labels)


def _count_bad_labels(series: str, side: Side, job: Job) -> int:
    if series == ORACLE:
        columns = list(side.labels.values())
        # Of what would have happened nothing is unknown.
        bad = np.any([(column != 0) & (column != 1) for column in columns], axis=0) if columns else False
    else:
        bad = bad_labels(fill_labels(side.labels, job.tasks), job.tasks)
    return int(np.count_nonzero(bad))


def _label_of(target: Target, labels: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns bool [N], bool [N]: whether an impression counts for a target, and whether its label is 1."""
    is_known = labels[target.label] >= 0
    if target.where is not None:
        is_known &= labels[target.where] == 1
    return is_known, is_known & (labels[target.label] == 1)


def codes_of(targets: tuple[Target, ...], labels: Mapping[str, Any]) -> Any:
    """Returns uint8 [N], two bits per target: 0 where an impression doesn't count, else 1 + label."""
    codes = np.zeros(len(next(iter(labels.values()))), dtype=np.uint8)
    for place, target in enumerate(targets):
        is_known, is_positive = _label_of(target, labels)
        codes |= (is_known.astype(np.uint8) + is_positive) << np.uint8(2 * place)
    return codes


def _ranked(part: int, group: Any, scores: Any, labels: Any, job: Job) -> Iterator[ColumnBlock]:
    """Yields (score, group, code) of each scan's impressions, to the range that the score is in."""
    codes: dict[str, Any] = {}
    for scan, splitters, first in zip(job.scans, job.splitters, job.first_parts, strict=True):
        if scan.score not in codes:
            codes[scan.score] = codes_of(scan.targets, labels)
        code, score = codes[scan.score], scores[scan.series][scan.score]
        columns = [score, group, code]
        if not code.all():
            counts = np.flatnonzero(code)
            columns = [column[counts] for column in columns]
        parts = ranges_of(columns[0], splitters)
        for place, content in split(columns, parts, len(splitters) + 1):
            yield ColumnBlock(first + place, RANK, part, content)


def _grouped(part: int, group: Any, scores: Any, labels: Any, job: Job) -> Iterator[ColumnBlock]:
    """Yields all that `layout.group_layout` has of each impression, to the range its group's hash is in."""
    codes = [codes_of(targets, labels) for _, targets in job.targets_by_score]
    columns = [group, *codes, *(scores[scan.series][scan.score] for scan in job.scans)]
    parts = parts_by_hash(group.view(np.uint64), job.group_parts)
    for place, content in split(columns, parts, job.group_parts):
        yield ColumnBlock(job.first_group_part + place, GROUP, part, content)
