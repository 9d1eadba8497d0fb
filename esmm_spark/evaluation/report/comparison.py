"""The report's section that holds the model against the baseline."""

from html import escape

from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import BASELINE, CVR_ENTIRE_SPACE, MODEL, ORACLE, Target
from esmm_spark.evaluation.report import formats, plots
from esmm_spark.evaluation.report.page import Section, figures, paragraph
from esmm_spark.evaluation.report.subject import Subject, population_of

_WHY = (
    "A CVR model is asked about every impression, but a conversion can be seen on clicked ones only, and "
    "those are no fair sample: what gets clicked more often also converts more often, or less. BASE learns "
    "pCVR from clicks alone and inherits that bias. ESMM learns pCTR and pCTCVR = pCTR x pCVR from all "
    "impressions: its pCVR is what makes the product right over the entire space, and rests on the embedding "
    "that all impressions have trained."
)
_READING = (
    "CVR on clicks judges pCVR where BASE was taught. CVR over the entire space judges it where it is used: "
    "that is the fair comparison, and only a simulator knows its labels. CTCVR is what can be measured over "
    "all impressions of real logs."
)


def comparison_section(subject: Subject, measured: Measurements) -> Section:
    """Returns the section: why the two differ, AUCs with intervals side by side, and what follows."""
    drawings = [
        (
            plots.auc_plot(measured, target, subject.names),
            f"<b>{escape(target.title)}</b>: {escape(population_of(target))}",
        )
        for target in measured.targets
        if measured.estimate(MODEL, target, "auc").value is not None
    ]
    if BASELINE not in measured.series:
        hint = paragraph(
            "No baseline was given. Train one with model.objective=base and a paths.model of its own, "
            "score the same partition, and name its scores in evaluate.baseline_scores."
        )
        return Section("Comparison", hint + figures(drawings))
    title = f"{subject.names[MODEL]} against {subject.names[BASELINE]}"
    verdicts = "".join(f"<li>{verdict(subject, measured, target)}</li>" for target in _order(measured))
    grid = figures(drawings)
    scale = paragraph(
        "Each axis has its own scale. A bar is a 95% interval. Two bars may overlap although the difference "
        "is clear: the series are compared on the same resamples."
    )
    return Section(title, paragraph(_WHY) + paragraph(_READING) + f"<ul>{verdicts}</ul>" + grid + scale)


def verdict(subject: Subject, measured: Measurements, target: Target) -> str:
    """Returns a sentence, in HTML, on which of the two has the higher AUC and whether that is clear."""
    found = measured.differences[target.metric("auc")]
    head = f"<b>{escape(target.title)}</b>: "
    if found.value is None:
        return head + escape(formats.value_of("auc", found))
    ours, theirs = (escape(subject.names[series]) for series in (MODEL, BASELINE))
    by = formats.number("auc", abs(found.value))
    interval = found.interval
    if interval is None:
        word = "above" if found.value >= 0 else "below"
        return head + f"the AUC of {ours} is {by} {word} that of {theirs} (no interval)."
    ends = f"95% interval of the difference {formats.interval_of('auc', found, signed=True)}"
    ends = ends.replace("-", "&minus;")
    if interval[0] <= 0 <= interval[1]:
        return head + f"no clear difference ({ends})."
    if found.value > 0:
        return head + f'{ours} is <span class="good">ahead by {by}</span> ({ends}){_gap(measured, target)}.'
    return head + f'{ours} is <span class="bad">behind by {by}</span> ({ends}).'


def _gap(measured: Measurements, target: Target) -> str:
    """Returns how much of the way from the baseline to the oracle the model goes, if there is a way."""
    if ORACLE not in measured.series:
        return ""
    ours, theirs, best = (
        measured.estimate(series, target, "auc").value for series in (MODEL, BASELINE, ORACLE)
    )
    if ours is None or theirs is None or best is None or best <= max(ours, theirs):
        return ""
    return f", {(ours - theirs) / (best - theirs):.0%} of the way to the oracle"


def _order(measured: Measurements) -> list[Target]:
    """Returns the targets, the entire space first: that is what the comparison is about."""
    return sorted(measured.targets, key=lambda target: target != CVR_ENTIRE_SPACE)
