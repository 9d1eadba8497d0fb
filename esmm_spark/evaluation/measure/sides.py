"""The sides of an evaluation as columns of numbers.

A side is a set of files with all impressions: the scores, a baseline's scores, the truth.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from esmm_spark.contracts.schemas.task_columns import truth_label
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE

UNKNOWN, IMPOSSIBLE = -1, 2  # labels beside 0 and 1

# Kinds of blocks between reading and aligning; what a side is called in messages.
SIDES = (MODEL, BASELINE, ORACLE)
NOTES = len(SIDES)
TITLES = {MODEL: "the scores", BASELINE: "the baseline's scores", ORACLE: "the truth"}


@dataclass(frozen=True)
class SideColumns:
    """The columns of one side.

    Attributes:
        series: the side.
        scores: names of its probabilities.
        score_type: their type.
        labels: names of its labels, int8: 0, 1, UNKNOWN, or IMPOSSIBLE for anything else.
    """

    series: str
    scores: tuple[str, ...]
    score_type: Any
    labels: tuple[str, ...]

    @property
    def has_group(self) -> bool:
        """Whether impressions have the hash of their group's key."""
        return self.series != ORACLE

    @property
    def layout(self) -> list[Any]:
        """Types of the columns: two hashes of the id, the group's, scores, labels."""
        group = [np.int64] if self.has_group else []
        return [
            np.uint64,
            np.uint64,
            *group,
            *[self.score_type] * len(self.scores),
            *[np.int8] * len(self.labels),
        ]


def side_columns(series: str, tasks: Tasks) -> SideColumns:
    """Returns the columns of a side."""
    if series != ORACLE:
        return SideColumns(series, tasks.all_score_columns, np.float32, tasks.names)
    conditional = tuple(tasks.score_columns(name).conditional for name in tasks.names)
    return SideColumns(series, conditional, np.float64, truth_labels(tasks))


def truth_labels(tasks: Tasks) -> tuple[str, ...]:
    """Returns the labels that only the truth has."""
    return tuple(truth_label(tasks, name) for name in tasks.names if tasks.parent(name) is not None)


def fill_entire(scores: dict[str, Any], tasks: Tasks) -> dict[str, Any]:
    """Returns conditional probabilities with those of the entire space: products along the tasks' chains."""
    entire: dict[str, Any] = {}
    found = dict(scores)
    for name in tasks.names:
        parent, columns = tasks.parent(name), tasks.score_columns(name)
        own = scores[columns.conditional]
        entire[name] = own if parent is None else entire[parent] * own
        found[columns.entire] = entire[name]
    return found


def fill_labels(labels: dict[str, Any], tasks: Tasks) -> dict[str, Any]:
    """Returns labels, an unknown one of a task whose parent's is 0 being 0: it can't have happened."""
    found: dict[str, Any] = {}
    for name in tasks.names:
        parent = tasks.parent(name)
        own = labels[name]
        found[name] = own if parent is None else np.where((own == UNKNOWN) & (found[parent] == 0), 0, own)
    return {name: column.astype(np.int8, copy=False) for name, column in found.items()}


def bad_labels(labels: dict[str, Any], tasks: Tasks) -> Any:
    """Returns bool [N]: a label that is neither 0, 1 nor unknown, or a 1 whose parent's isn't 1."""
    bad = np.zeros(len(next(iter(labels.values()))), dtype=bool)
    for name in tasks.names:
        parent = tasks.parent(name)
        bad |= labels[name] == IMPOSSIBLE
        if parent is not None:
            bad |= (labels[name] == 1) & (labels[parent] != 1)
    return bad


def bad_scores(scores: dict[str, Any]) -> Any:
    """Returns bool [N]: a score outside [0, 1], or NaN."""
    bad = np.zeros(len(next(iter(scores.values()))), dtype=bool)
    for column in scores.values():
        bad |= ~((column >= 0) & (column <= 1))
    return bad
