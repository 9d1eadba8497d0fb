"""What is evaluated, as the report shows it: locations, and names of the series."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from esmm_spark.contracts.manifest import DayCounts
from esmm_spark.contracts.schemas.records import TrainHistory
from esmm_spark.contracts.schemas.requirements import Bounds
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks


@dataclass(frozen=True)
class Subject:
    """What is evaluated, and how.

    Args:
        partition: e.g. `split=test`.
        dataset: where the examples are.
        scores: the scores' folder.
        model_version: the model that made them.
        names: series -> how people call it, e.g. `{"model": "ESMM", "baseline": "BASE", "oracle": "oracle"}`.
        baseline_scores: the baseline's folder, or None.
        baseline_version: the model that made the baseline's scores, or None.
        truth: the simulator's truth, or None.
        num_samples: bootstrap samples.
        seed: of the bootstrap.
        history: the model's training curves, or None.
        history_note: where they come from, or why there are none.
        tasks: what was predicted.
        required: metric -> what it must be.
        days: the days of a dataset of event logs, none of any other.
    """

    partition: str
    dataset: str
    scores: str
    model_version: str
    names: Mapping[str, str]
    baseline_scores: str | None
    baseline_version: str | None
    truth: str | None
    num_samples: int
    seed: int
    history: TrainHistory | None
    history_note: str
    days: Mapping[str, DayCounts] = field(default_factory=dict)
    tasks: Tasks = DEFAULT_TASKS
    required: Mapping[str, Bounds] = field(default_factory=dict)
