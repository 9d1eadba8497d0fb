"""The section of calibration curves."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from esmm_spark.contracts.schemas.targets import Target
from esmm_spark.evaluation.measure.curves import CalibrationBin
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import MODEL, Ranking
from esmm_spark.evaluation.report import drawing, formats
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.pages import plots
from esmm_spark.pages.page import Figure, FigureGroup, PageSection


def section(subject: Subject, measured: Measurements) -> PageSection:
    """Returns a curve per target, those of all series in it, with their calibration ratios."""
    figures, missing = [], []
    for target in measured.targets:
        if Ranking(MODEL, target) not in measured.curves:
            missing.append(f"{target.title}: n/a (no labelled impression)")
            continue
        ratios = " \N{MIDDLE DOT} ".join(
            f"{subject.names[series]} {formats.value_of('calibration', found)}"
            for series in measured.series
            for found in (measured.estimate(series, target, "calibration"),)
        )
        svg = _calibration_plot(subject, measured, target)
        figures.append(Figure(svg, target.title, f"predicted / actual: {ratios}"))
    text = (
        "Impressions sorted by score into bins of about equal size: the mean score of a bin, and the rate "
        "that was observed in it with its 95% interval (Wilson's). On the grey line, what was promised "
        "happened."
    )
    values = {"texts": [text], "groups": [FigureGroup(figures)], "missing": missing}
    return PageSection("Calibration", "figures.html", values)


def _calibration_plot(subject: Subject, measured: Measurements, target: Target) -> Markup:
    """Returns observed rates over predicted ones, with 95% intervals."""

    def draw(axes: Any) -> None:
        drawn = drawing.drawn(measured, target)
        points = [point for ranking in drawn for point in measured.curves[ranking].calibration]
        low, high, is_log = _limits(points)
        axes.plot([low, high], [low, high], color="#B8C0CA", linewidth=1)
        for ranking in drawn:
            _draw_bins(axes, measured.curves[ranking].calibration, ranking.series, subject, low)
        if is_log:
            axes.set_xscale("log")
            axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        for axis in (axes.xaxis, axes.yaxis):
            if is_log:
                axis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 3000 else (1,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: drawing.probability_label(value)))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("predicted")
        axes.set_ylabel("observed")
        drawing.legend(axes, loc="upper left")

    return plots.svg(draw, f"{target.title}: calibration curve", height=3.7)


def _draw_bins(axes: Any, curve: Sequence[CalibrationBin], series: str, subject: Subject, low: float) -> None:
    predicted = [point.mean_score for point in curve]
    bars = [[max(point.low, low), point.high] for point in curve]
    axes.vlines(predicted, *zip(*bars, strict=True), color=drawing.COLOURS[series], alpha=0.35, linewidth=2)
    # A rate of 0 has no place on a logarithmic axis; its interval has.
    seen = [point for point in curve if point.rate > 0]
    style = drawing.line(series) | {"linewidth": 1.2, "marker": drawing.MARKERS[series], "markersize": 4}
    axes.plot([p.mean_score for p in seen], [p.rate for p in seen], label=subject.names[series], **style)


def _limits(points: Sequence[CalibrationBin]) -> tuple[float, float, bool]:
    """Returns the ends of both axes, and whether they are logarithmic."""
    values = [value for point in points for value in (point.mean_score, point.rate) if value > 0]
    low, high = min(values, default=0.1), max(values, default=1.0)
    if high / low < 8:
        return 0.0, min(1.0, 1.1 * high), False
    return 0.7 * low, 1.4 * high, True
