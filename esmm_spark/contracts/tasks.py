"""The contract of tasks: what is predicted for an impression, and the columns that follow from it.

    tasks:
      click: {}                          # P(click | impression)
      conversion: {given: click}         # P(conversion | click)
      repurchase: {given: conversion}    # P(repurchase | conversion)

Each task has a label column of its name in the examples. `given` names its parent: its label can be 1 only
where its parent's is. Tasks without a parent are roots; a root and what is given it make a tree, of which the
default, click -> conversion, is the shortest that ESMM has a use for. K tasks stand in topological order,
parents before children, else as the config has them.

A task's conditional probability is P(task | parent); its entire-space probability is the product of the
conditional ones along its chain, from the root on: P(task | impression). A root's are the same.
"""

import re
from functools import cached_property
from typing import Annotated, Any, NamedTuple, Self

from pydantic import ConfigDict, Field, RootModel, model_validator

from esmm_spark.contracts.schemas.columns import (
    DEFAULT_LABELS,
    PROBABILITIES,
    SCORE_COLUMNS,
    TRUTH_COLUMNS,
    example_columns,
    label_columns,
    names_of,
)
from esmm_spark.contracts.section import Section

NO_PARENT = -1
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# Columns that stand beside the labels in examples, label files, scores or the simulator's truth: all that
# aren't made of a label's name.
RESERVED_COLUMNS = {
    name
    for table in (
        example_columns("int", DEFAULT_LABELS, {}),
        label_columns(DEFAULT_LABELS),
        SCORE_COLUMNS,
        TRUTH_COLUMNS,
    )
    for name in names_of(table)
    if not any(label in name for label in DEFAULT_LABELS)
}
# Columns that are made of a task's name: `p_buy`, `p_entire_buy`, `num_clicks`, `click_time_us`.
_RESERVED_PREFIXES, _RESERVED_SUFFIX = ("p_", "entire_", "num_"), "_time_us"

_PAPERS_SERIES = tuple(column[1:] for column in PROBABILITIES)


class Task(Section):
    """One task, named by its key. By default there are `click: {}` and `conversion: {given: click}`."""

    given: Annotated[
        str | None,
        Field(description="The task that must have happened for this one to happen; without one, a root."),
    ] = None


class ScoreColumns(NamedTuple):
    """The score columns of a task: both are the same one for a root."""

    conditional: str
    entire: str


class Series(NamedTuple):
    """What metrics are of: the conditional probability of a task, or the one in the entire space.

    Attributes:
        task: its name.
        is_conditional: whether it is P(task | parent), which is judged where the parent's label is 1.
        called: what people call it: `CVR`, `repurchase`.
        over: what it is judged on, where that must be said: `on clicks`, `of all impressions`.
    """

    task: str
    is_conditional: bool
    called: str
    over: str

    def title(self, metric: str = "") -> str:
        """Returns `CVR on clicks`, or of a metric `CVR AUC on clicks`."""
        return " ".join(word for word in (self.called, metric, self.over) if word)


class Tasks(RootModel[dict[str, Task]]):
    """All tasks by name. Two are equal only if they have the same labels in the same order."""

    model_config = ConfigDict(frozen=True, strict=True)

    root: Annotated[dict[str, Task], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, task in self.root.items():
            if problem := problem_of_name(name):
                raise ValueError(
                    f"task {name!r} {problem}: it is a column of the examples, choose another name"
                )
            if task.given is not None and task.given not in self.root:
                raise ValueError(
                    f"task {name} is given {task.given!r}, which is no task: there are {', '.join(self.root)}"
                )
        if len(self.names) < len(self.root):
            raise ValueError(f"tasks are given each other in a circle: {self._circle()}")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """[K] names in topological order; those in a circle are left out, which no valid `Tasks` has."""
        names: list[str] = []
        remaining = dict(self.root)
        while ready := [n for n, task in remaining.items() if task.given is None or task.given in names]:
            # One at a time, so that a child comes before a later root where the config has it so.
            names.append(ready[0])
            del remaining[ready[0]]
        return tuple(names)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """[K] the index of each task's parent in `names`, NO_PARENT for a root."""
        given = [self.root[name].given for name in self.names]
        return tuple(NO_PARENT if parent is None else self.names.index(parent) for parent in given)

    def parent(self, name: str) -> str | None:
        """Returns the task that `name` is given, None for a root."""
        return self.root[name].given

    def children(self, name: str) -> tuple[str, ...]:
        """Returns the tasks that are given `name`, in topological order."""
        return tuple(other for other in self.names if self.root[other].given == name)

    def chain(self, name: str) -> tuple[str, ...]:
        """Returns the tasks from the root to `name`: `("click", "conversion")` of conversion."""
        parent = self.parent(name)
        return (name,) if parent is None else (*self.chain(parent), name)

    def score_columns(self, name: str) -> ScoreColumns:
        """Returns the names of the score columns of a task.

        A root `click` has `pctr`, `conversion` given `click` has `pcvr` and `pctcvr`: the paper's names. Any
        other root has `p_<task>`, and any other task `p_<task>` and `p_entire_<task>`.
        """
        chain = self.chain(name)
        if chain == ("click",):
            return ScoreColumns("pctr", "pctr")
        if chain == ("click", "conversion"):
            return ScoreColumns("pcvr", "pctcvr")
        conditional = f"p_{name}"
        return ScoreColumns(conditional, conditional if len(chain) == 1 else f"p_entire_{name}")

    @cached_property
    def all_score_columns(self) -> tuple[str, ...]:
        """The score columns of all tasks, each once: `pctr, pcvr, pctcvr` by default."""
        return tuple(dict.fromkeys(column for name in self.names for column in self.score_columns(name)))

    @cached_property
    def series(self) -> dict[str, Series]:
        """Name -> what metrics are of, as `all_score_columns`: `ctr, cvr, ctcvr` by default, else the task's.

        Example: `pcvr` is of the series `cvr`, `p_entire_repurchase` of `entire_repurchase`.
        """
        found = {}
        for name in self.names:
            columns, parent = self.score_columns(name), self.parent(name)
            # A root's two columns are one: its probability in the entire space.
            own = called(columns.conditional) or noun(name)
            over = f"on {plural(parent)}" if parent else ""
            found[columns.conditional] = Series(name, parent is not None, own, over)
            known = called(columns.entire)
            entire = (known, "") if known else (noun(name), "of all impressions")
            found.setdefault(columns.entire, Series(name, False, *entire))
        return {series_name(column): series for column, series in found.items()}

    def orphan_reason(self, name: str) -> str:
        """Returns why a line is rejected whose label `name` is 1 and whose parent's is not.

        Example: `conversion_without_click`.
        """
        return f"{name}_without_{self.parent(name)}"

    def described(self) -> str:
        """Returns the tasks in a few words, for messages: `click, conversion given click`."""
        parents = ((name, self.parent(name)) for name in self.names)
        return ", ".join(name if parent is None else f"{name} given {parent}" for name, parent in parents)

    def __eq__(self, other: Any) -> bool:
        """Returns whether the other has the same tasks in the same order."""
        if not isinstance(other, Tasks):
            return NotImplemented
        return self.names == other.names and self.parents == other.parents

    def __hash__(self) -> int:
        """Returns a hash of names and parents."""
        return hash((self.names, self.parents))

    def _circle(self) -> str:
        """Returns `a given b given a` of tasks that don't lead to a root."""
        name = next(name for name in self.root if name not in self.names)
        trail: list[str] = []
        while name not in trail:
            trail.append(name)
            given = self.root[name].given
            assert given is not None, "a task that leads to no root has a parent"
            name = given
        return " given ".join([*trail[trail.index(name) :], name])


def problem_of_name(name: str) -> str | None:
    """Returns why a name can't be a label column beside the others, None where it can."""
    if not _NAME.fullmatch(name):
        return "is no column name of lower-case letters, digits and _, at most 40, a letter first"
    if name in RESERVED_COLUMNS:
        return "has the name of another column"
    if name in _PAPERS_SERIES:
        return "has the name of a metric's series"
    if name.startswith(_RESERVED_PREFIXES):
        return f"begins with one of {', '.join(_RESERVED_PREFIXES)} as columns of scores and counts do"
    if name.endswith(_RESERVED_SUFFIX):
        return f"ends with {_RESERVED_SUFFIX}, as columns of times do"
    return None


def series_name(column: str) -> str:
    """Returns the series of a score column: `cvr` of `pcvr`, `entire_repurchase` of `p_entire_repurchase`."""
    return column.removeprefix("p").removeprefix("_")


def called(column: str) -> str:
    """Returns the paper's name of a score column, `CVR` of `pcvr`; empty where it has none."""
    return column[1:].upper() if column in PROBABILITIES else ""


def noun(task: str) -> str:
    """Returns a task's name for people: `re order` of `re_order`."""
    return task.replace("_", " ")


def plural(task: str) -> str:
    """Returns what a task's positives are called: `clicks`."""
    return f"{noun(task)}s"


DEFAULT_TASKS = Tasks({"click": Task(), "conversion": Task(given="click")})
