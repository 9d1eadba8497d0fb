"""The section of score histograms: how far the scores of both labels lie apart."""

from typing import Any

import numpy as np
from markupsafe import Markup

from esmm_spark.evaluation.measure.curves import Histogram
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import ORACLE, Ranking
from esmm_spark.evaluation.report import drawing
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.evaluation.report.words import words_of
from esmm_spark.pages import plots
from esmm_spark.pages.page import Figure, FigureGroup, PageSection

_LABEL_COLOURS = ("#8A94A3", "#009E73")
_TICKS = (
    *(m * 10.0**e for e in range(-9, -1) for m in (1, 3)),
    *(0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999, 0.9999, 0.99999, 0.999999),
)  # fmt: skip


def section(subject: Subject, measured: Measurements) -> PageSection:
    """Returns a histogram per series and target; the oracle's would show the simulator, not a model."""
    groups = []
    for series in measured.series:
        figures = []
        for target in measured.targets:
            curves = measured.curves.get(Ranking(series, target))
            if curves is not None and series != ORACLE:
                words = words_of(target, subject.tasks)
                svg = _histogram_plot(curves.histogram, target.title, subject.names[series], words.labels)
                figures.append(Figure(svg, target.title, f"{words.score} of {words.population}"))
        groups.append(FigureGroup(figures, subject.names[series], drawing.COLOURS[series]))
    text = (
        "How far the scores of both labels lie apart. The bars of a label add up to 100%, however rare it is."
    )
    return PageSection("Scores", "figures.html", {"texts": [text], "groups": groups, "missing": []})


def _histogram_plot(found: Histogram, title: str, name: str, labels: tuple[str, str]) -> Markup:
    """Returns the shares of both labels by score, on a scale of log-odds.

    Args:
        found: the shares.
        title: what the score predicts.
        name: whose score it is.
        labels: what label 0 and label 1 are called.
    """

    def draw(axes: Any) -> None:
        for shares, label, colour in zip(
            (found.negatives, found.positives), labels, _LABEL_COLOURS, strict=True
        ):
            if shares.any():
                axes.stairs(100 * shares, found.edges, fill=True, color=colour, alpha=0.28)
                axes.stairs(100 * shares, found.edges, color=colour, linewidth=1.6, label=label)
        ticks = _probability_ticks(float(found.edges[0]), float(found.edges[-1]))
        axes.set_xticks([np.log(p / (1 - p)) for p in ticks], [drawing.probability_label(p) for p in ticks])
        axes.set_xlabel("score (scale of log-odds)")
        axes.set_ylabel("% of the label's impressions")
        axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.22)
        axes.legend(loc="upper left", ncols=2, handlelength=1.4, columnspacing=1.2)

    return plots.svg(draw, f"{name}, {title}: histogram of scores by label", height=2.7)


def _probability_ticks(low: float, high: float) -> list[float]:
    """Returns probabilities between two log-odds, far enough apart to be written side by side."""
    ticks: list[float] = []
    for probability in _TICKS:
        at = np.log(probability / (1 - probability))
        spacing = (high - low) / 6
        if low <= at <= high and (not ticks or at - np.log(ticks[-1] / (1 - ticks[-1])) >= spacing):
            ticks.append(probability)
    return ticks
