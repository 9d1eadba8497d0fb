"""The section of ROC curves."""

from typing import Any

from markupsafe import Markup

from esmm_spark.contracts.schemas.targets import Target
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import MODEL
from esmm_spark.evaluation.report import drawing, formats
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.evaluation.report.words import words_of
from esmm_spark.pages import plots
from esmm_spark.pages.page import Figure, FigureGroup, PageSection


def section(subject: Subject, measured: Measurements) -> PageSection:
    """Returns a curve per target, those of all series in it."""
    figures, missing = [], []
    for target in measured.targets:
        auc = measured.estimate(MODEL, target, "auc")
        if auc.value is None:
            missing.append(f"{target.title}: {formats.value_of('auc', auc)}")
        else:
            svg = _roc_plot(subject, measured, target)
            figures.append(Figure(svg, target.title, words_of(target, subject.tasks).population))
    text = (
        "Shares of the positives that lie above a threshold, against those of the negatives, for all "
        "thresholds. The grey line is guessing."
    )
    values = {"texts": [text], "groups": [FigureGroup(figures)], "missing": missing}
    return PageSection("ROC curves", "figures.html", values)


def _roc_plot(subject: Subject, measured: Measurements, target: Target) -> Markup:
    """Returns the ROC curves of all series."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color="#B8C0CA", linewidth=1)
        for ranking in drawing.drawn(measured, target):
            false_rate, true_rate = measured.curves[ranking].roc
            auc = measured.estimate(ranking.series, target, "auc").value
            label = f"{subject.names[ranking.series]}  {auc:.4f}"
            axes.plot(false_rate, true_rate, label=label, **drawing.line(ranking.series))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        drawing.legend(axes, loc="lower right", title="AUC", alignment="right")

    return plots.svg(draw, f"{target.title}: ROC curves", height=3.7)
