"""How targets and their metrics are called, and what they mean, for people."""

from collections.abc import Mapping
from typing import NamedTuple

from esmm_spark.evaluation.measure.targets import Kind, Target

KIND_TITLES: Mapping[Kind, str] = {
    "auc": "AUC",
    "log_loss": "Log loss",
    "calibration": "Calibration ratio",
    "gauc": "GAUC",
}


class Words(NamedTuple):
    """What people call a target and its labels.

    Attributes:
        header: over a narrow column, `CVR clicks`.
        score: of what predicts it, `pCVR`.
        positive: an impression with label 1.
        negative: one with label 0.
        positives: what label 1 counts.
        population: the impressions that have a label.
        labels: 0 and 1.
    """

    header: str
    score: str
    positive: str
    negative: str
    positives: str
    population: str
    labels: tuple[str, str]


_WORDS = {
    "ctr": Words(
        "CTR",
        "pCTR",
        "a clicked impression",
        "one that nobody clicked",
        "clicks",
        "all impressions",
        ("not clicked", "clicked"),
    ),
    "cvr_clicks": Words(
        "CVR clicks",
        "pCVR",
        "a click that converted",
        "a click that did not",
        "conversions",
        "clicked impressions only",
        ("not converted", "converted"),
    ),
    "ctcvr": Words(
        "CTCVR",
        "pCTCVR",
        "an impression that led to a conversion",
        "one that did not",
        "conversions",
        "all impressions",
        ("not converted", "converted"),
    ),
    "cvr_entire_space": Words(
        "CVR entire",
        "pCVR",
        "an impression that would convert if clicked",
        "one that would not",
        "conversions if every impression were clicked",
        "all impressions, clicked or not, by the simulator's truth",
        ("would not convert", "would convert"),
    ),
}


def words_of(target: Target) -> Words:
    """Returns the words for a target: those of clicks and conversions, or what holds for any label."""
    return _WORDS.get(target.name) or Words(
        header=target.title,
        score=target.score,
        positive="an impression with label 1",
        negative="one with label 0",
        positives="positives",
        population="impressions with a known label",
        labels=("label 0", "label 1"),
    )


def meaning_of(target: Target, kind: Kind) -> str:
    """Returns one line on what a metric says."""
    words = words_of(target)
    return {
        "auc": f"Chance that {words.positive} is scored above {words.negative}. 0.5 is guessing, 1 perfect.",
        "log_loss": f"Mean penalty in nats for the probability given to what happened, over "
        f"{words.population}. Lower is better.",
        "calibration": f"Predicted {words.positives} per actual one. 1 is right, above 1 promises too much.",
        "gauc": "The AUC within one context, averaged over contexts by their impressions: how well the "
        "impressions of one user or request are ordered.",
    }[kind]
