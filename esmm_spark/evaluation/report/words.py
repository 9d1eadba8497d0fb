"""How targets, their labels and their metrics are called, and what they mean, for people.

All of it follows from the tasks; those of click and conversion have the words that the field has for them.
"""

from typing import NamedTuple

from esmm_spark.contracts.tasks import Tasks
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.metrics import METRICS, Kind
from esmm_spark.evaluation.measure.targets import LabelCounts, Target


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
_RATES = {"click": "CTR", "conversion": "CVR"}


def words_of(target: Target, tasks: Tasks) -> Words:
    """Returns the words for a target, whose score column says which task it is about."""
    known = _WORDS.get(target.name)
    if known is not None:
        return known
    task = next(name for name in tasks.names if target.score in tasks.score_columns(name))
    given, parent = _noun(task), tasks.parent(task)
    labels = (f"no {given}", given)
    is_entire = parent is None or target.score != tasks.score_columns(task).conditional
    if is_entire:
        positive, negative = f"an impression that led to {given}", "one that did not"
        header = given if parent is None else f"{given}, all"
        return Words(header, f"P({given})", positive, negative, plural(task), "all impressions", labels)
    assert parent is not None
    before = _noun(parent)
    score = f"P({given} | {before})"
    if target.needs_truth:
        return Words(
            header=f"{given} if {before}",
            score=score,
            positive=f"an impression that would lead to {given} after {before}",
            negative="one that would not",
            positives=f"{plural(task)} if every impression had led to {before}",
            population=f"all impressions, with and without {before}, by the simulator's truth",
            labels=(f"would be no {given}", f"would be {given}"),
        )
    return Words(
        header=f"{given} on {before}",
        score=score,
        positive=f"an impression with {before} that led to {given}",
        negative="one that did not",
        positives=plural(task),
        population=f"impressions with {before} only",
        labels=labels,
    )


def meaning_of(target: Target, kind: Kind, tasks: Tasks) -> str:
    """Returns one line on what a metric says."""
    return METRICS[kind].meaning.format_map(words_of(target, tasks)._asdict())


def counts_of_tasks(measured: Measurements, tasks: Tasks) -> dict[str, LabelCounts]:
    """Returns each task's positives, of the impressions whose parent's label is 1: task -> counts."""
    found = {}
    for name in tasks.names:
        column = tasks.score_columns(name).conditional
        for target in measured.targets:
            if target.score == column and not target.needs_truth:
                found[name] = measured.labels[target.name]
    return found


def plural(task: str) -> str:
    """Returns what a task's positives are called: `clicks`."""
    return f"{_noun(task)}s"


def rate_of(task: str, tasks: Tasks, percentage: str) -> str:
    """Returns `CTR 3.9%`, `CVR 2.1% of clicks`, or `2.1% of conversions` for a task without a short name."""
    parent = tasks.parent(task)
    short = f"{_RATES[task]} {percentage}" if task in _RATES else percentage
    if parent is not None:
        return f"{short} of {plural(parent)}"
    return short if task in _RATES else f"{short} of impressions"


def _noun(task: str) -> str:
    return task.replace("_", " ")
