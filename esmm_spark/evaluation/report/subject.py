"""What is evaluated, for people: where it lies, how its series are called, and what the numbers mean."""

from collections.abc import Mapping
from dataclasses import dataclass

from esmm_spark.evaluation.measure.targets import Kind, Target
from esmm_spark.evaluation.report.history import History


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
    history: History | None
    history_note: str


@dataclass(frozen=True)
class _Words:
    positive: str
    negative: str
    positives: str
    population: str


_WORDS = {
    "ctr": _Words("a clicked impression", "one that nobody clicked", "clicks", "all impressions"),
    "cvr_clicks": _Words(
        "a click that converted", "a click that did not", "conversions", "clicked impressions only"
    ),
    "ctcvr": _Words(
        "an impression that led to a conversion", "one that did not", "conversions", "all impressions"
    ),
    "cvr_entire_space": _Words(
        "an impression that would convert if clicked",
        "one that would not",
        "conversions if every impression were clicked",
        "all impressions, clicked or not, by the simulator's truth",
    ),
}

KIND_TITLES: Mapping[Kind, str] = {
    "auc": "AUC",
    "log_loss": "Log loss",
    "calibration": "Calibration ratio",
    "gauc": "GAUC",
}


def population_of(target: Target) -> str:
    """Returns which impressions a target is about."""
    return _WORDS[target.name].population


def meaning_of(target: Target, kind: Kind) -> str:
    """Returns one line on what a metric says."""
    words = _WORDS[target.name]
    return {
        "auc": f"Chance that {words.positive} is scored above {words.negative}. 0.5 is guessing, 1 perfect.",
        "log_loss": f"Mean penalty in nats for the probability given to what happened, over "
        f"{words.population}. Lower is better.",
        "calibration": f"Predicted {words.positives} per actual one. 1 is right, above 1 promises too much.",
        "gauc": "The AUC within one context, averaged over contexts by their impressions: how well the "
        "impressions of one user or request are ordered.",
    }[kind]
