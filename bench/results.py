"""What the bench found: figures, the goals held against them, and the JSON that they are kept in."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS = "esmm_spark"
SENT = "rows and gradients sent"  # the shape of the ranks stage from which scaling is worked out


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: who was measured: OURS or a peer; beside it the shape, as in `esmm_spark, single-valued`.
        value: the number; where `unit` is a rate, more is better.
        unit: as in `impressions/s`.
        details: further numbers of the same run.
    """

    name: str
    value: float
    unit: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """What is asked of a figure or of a ratio of two figures of one run.

    Attributes:
        text: what is compared, as in `training / reference`.
        value: what was found.
        limit: what is asked.
        at_least: whether `limit` is the least value allowed, else the most.
    """

    text: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class StageResult:
    """What one stage found.

    Attributes:
        figures: measured numbers, ours first.
        goals: what is asked.
        details: anything else worth keeping, such as a profile.
    """

    figures: list[Figure] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str, **details: Any) -> Figure:
        """Adds a figure and returns it."""
        figure = Figure(name, value, unit, details)
        self.figures.append(figure)
        return figure

    def ask(self, text: str, value: float, limit: float, at_least: bool = True) -> None:
        """Adds a goal."""
        self.goals.append(Goal(text, value, limit, at_least))


@dataclass
class Results:
    """All stages of a run and the machine that they were measured on."""

    machine: dict[str, Any]
    options: dict[str, Any]
    stages: dict[str, StageResult] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the results as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = asdict(self)
        for name, stage in self.stages.items():
            for goal, written in zip(stage.goals, content["stages"][name]["goals"], strict=True):
                written["met"] = goal.met
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load_results(path: Path) -> Results:
    """Returns the results that `Results.save` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    stages = {
        name: StageResult(
            figures=[Figure(**figure) for figure in stage["figures"]],
            goals=[Goal(**{key: goal[key] for key in goal if key != "met"}) for goal in stage["goals"]],
            details=stage["details"],
        )
        for name, stage in content["stages"].items()
    }
    return Results(content["machine"], content["options"], stages)


def best_of(times: int, measure: Callable[[], float]) -> float:
    """Returns the largest of `times` measurements: other load on the machine only ever takes speed away."""
    return max(measure() for _ in range(times))
