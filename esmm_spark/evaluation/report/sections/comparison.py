"""The section that compares the model with the baseline."""

from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from esmm_spark.contracts.schemas.columns import PROBABILITIES
from esmm_spark.contracts.schemas.targets import Target
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE
from esmm_spark.evaluation.report import drawing, formats
from esmm_spark.evaluation.report.paper_words import PAPER_TEXTS
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.evaluation.report.words import words_of
from esmm_spark.pages import plots
from esmm_spark.pages.page import Figure, FigureGroup, PageSection

_SCALE = (
    "Each axis has its own scale. A bar is a 95% interval. Two bars may overlap although the difference "
    "is clear: the series are compared on the same resamples."
)
_NO_BASELINE = (
    "No baseline was given. Train one with model.objective=base and a paths.model of its own, score the same "
    "partition, and name its scores in evaluate.baseline_scores."
)


class Conclusion(NamedTuple):
    """A sentence on one target: `<title>: <before><claim><after>`, the claim marked as `good` or `bad`."""

    title: str
    before: str
    claim: str = ""
    mark: str = ""
    after: str = ""


def section(subject: Subject, measured: Measurements) -> PageSection:
    """Returns why the two differ, AUCs with intervals side by side, and what follows."""
    figures = [
        Figure(_auc_plot(subject, measured, target), target.title, words_of(target, subject.tasks).population)
        for target in measured.targets
        if measured.estimate(MODEL, target, "auc").value is not None
    ]
    values = {"texts": [_NO_BASELINE], "conclusions": [], "group": FigureGroup(figures), "scale": ""}
    if BASELINE not in measured.series:
        return PageSection("Comparison", "comparison.html", values)
    # The reasons are those of CVR.
    values["texts"] = PAPER_TEXTS if set(PROBABILITIES) <= set(subject.tasks.all_score_columns) else []
    values["conclusions"] = [conclusion(subject, measured, target) for target in _order(measured)]
    values["scale"] = _SCALE
    title = f"{subject.names[MODEL]} against {subject.names[BASELINE]}"
    return PageSection(title, "comparison.html", values)


def conclusion(subject: Subject, measured: Measurements, target: Target) -> Conclusion:
    """Returns which of the two has the higher AUC and whether that is clear."""
    found = measured.differences[target.metric("auc")]
    if found.value is None:
        return Conclusion(target.title, formats.value_of("auc", found))
    ours, theirs = subject.names[MODEL], subject.names[BASELINE]
    by = formats.number("auc", abs(found.value))
    interval = found.interval
    if interval is None:
        word = "above" if found.value >= 0 else "below"
        return Conclusion(target.title, f"the AUC of {ours} is {by} {word} that of {theirs} (no interval).")
    ends = f" (95% interval of the difference {formats.interval_of('auc', found, signed=True)})"
    if interval[0] <= 0 <= interval[1]:
        return Conclusion(target.title, "no clear difference", after=f"{ends}.")
    if found.value > 0:
        after = f"{ends}{_gap(measured, target)}."
        return Conclusion(target.title, f"{ours} is ", f"ahead by {by}", "good", after)
    return Conclusion(target.title, f"{ours} is ", f"behind by {by}", "bad", f"{ends}.")


def _auc_plot(subject: Subject, measured: Measurements, target: Target) -> Markup:
    """Returns the AUCs of all series with their intervals, a line per series."""
    series = [name for name in measured.series if measured.estimate(name, target, "auc").value is not None]

    def draw(axes: Any) -> None:
        for height, name in enumerate(series):
            estimate = measured.estimate(name, target, "auc")
            low, high = estimate.interval or (estimate.value, estimate.value)
            axes.plot([low, high], [height, height], color=drawing.COLOURS[name], linewidth=3, alpha=0.45)
            axes.plot(
                [estimate.value], [height], drawing.MARKERS[name], color=drawing.COLOURS[name], markersize=7
            )
        axes.set_yticks(range(len(series)), [subject.names[name] for name in series])
        axes.set_ylim(len(series) - 0.4, -0.6)
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("AUC")

    return plots.svg(draw, f"{target.title}: AUC with 95% intervals", height=1.0 + 0.28 * len(series))


def _gap(measured: Measurements, target: Target) -> str:
    """Returns the share of the difference between baseline and oracle that the model closes, if any."""
    if ORACLE not in measured.series:
        return ""
    ours, theirs, best = (
        measured.estimate(series, target, "auc").value for series in (MODEL, BASELINE, ORACLE)
    )
    if ours is None or theirs is None or best is None or best <= max(ours, theirs):
        return ""
    return f", {(ours - theirs) / (best - theirs):.0%} of the way to the oracle"


def _order(measured: Measurements) -> list[Target]:
    """Returns the targets, those that only the truth knows first: they are what the comparison is about."""
    return sorted(measured.targets, key=lambda target: not target.needs_truth)
