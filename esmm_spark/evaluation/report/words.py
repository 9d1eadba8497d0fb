"""How targets, their labels and their metrics are called, and what they mean, for people.

All of it follows from the tasks; those of click and conversion have the words that the field has for them.
"""

from esmm_spark.contracts.schemas.targets import MetricKind, Target
from esmm_spark.contracts.tasks import Tasks, called, noun, plural
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.metrics import METRICS
from esmm_spark.evaluation.measure.targets import LabelCounts
from esmm_spark.evaluation.report.paper_words import PAPER_WORDS, TargetWords


def words_of(target: Target, tasks: Tasks) -> TargetWords:
    """Returns the words for a target, whose score column says which task it is about."""
    known = PAPER_WORDS.get(target.name)
    if known is not None:
        return known
    task = next(name for name in tasks.names if target.score in tasks.score_columns(name))
    given, parent = noun(task), tasks.parent(task)
    labels = (f"no {given}", given)
    is_entire = parent is None or target.score != tasks.score_columns(task).conditional
    if is_entire:
        positive, negative = f"an impression that led to {given}", "one that did not"
        header = given if parent is None else f"{given}, all"
        return TargetWords(header, f"P({given})", positive, negative, plural(task), "all impressions", labels)
    assert parent is not None
    before = noun(parent)
    score = f"P({given} | {before})"
    if target.needs_truth:
        return TargetWords(
            header=f"{given} if {before}",
            score=score,
            positive=f"an impression that would lead to {given} after {before}",
            negative="one that would not",
            positives=f"{plural(task)} if every impression had led to {before}",
            population=f"all impressions, with and without {before}, by the simulator's truth",
            labels=(f"would be no {given}", f"would be {given}"),
        )
    return TargetWords(
        header=f"{given} on {plural(parent)}",
        score=score,
        positive=f"an impression with {before} that led to {given}",
        negative="one that did not",
        positives=plural(task),
        population=f"impressions with {before} only",
        labels=labels,
    )


def meaning_of(target: Target, kind: MetricKind, tasks: Tasks) -> str:
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


def rate_of(task: str, tasks: Tasks, percentage: str) -> str:
    """Returns `CTR 3.9%`, `CVR 2.1% of clicks`, or `2.1% of conversions` for a task without a short name."""
    parent = tasks.parent(task)
    paper = called(tasks.score_columns(task).conditional)
    short = f"{paper} {percentage}" if paper else percentage
    if parent is not None:
        return f"{short} of {plural(parent)}"
    return short if paper else f"{short} of impressions"
