"""Plots of the report: the colours, markers and dashes of the series."""

from typing import Any

from esmm_spark.contracts.schemas.targets import Target
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE, Ranking

# Okabe and Ito's colours, told apart with any colour vision; markers and dashes differ as well.
COLOURS = {MODEL: "#0072B2", BASELINE: "#D55E00", ORACLE: "#5B6470"}
MARKERS = {MODEL: "o", BASELINE: "s", ORACLE: "D"}
_DASHES = {MODEL: "-", BASELINE: (0, (5, 1.5)), ORACLE: (0, (1, 1.2))}


def drawn(measured: Measurements, target: Target) -> list[Ranking]:
    """Returns the rankings of a target that have curves; the model's is drawn last, on top."""
    rankings = [Ranking(series, target) for series in reversed(measured.series)]
    return [ranking for ranking in rankings if ranking in measured.curves]


def legend(axes: Any, **options: str) -> None:
    """Draws the legend in the order of the tables; the curves are drawn in the opposite one."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], **options)


def line(series: str) -> dict[str, Any]:
    """Returns how the line of a series is drawn."""
    return {"color": COLOURS[series], "linestyle": _DASHES[series]}


def probability_label(probability: float) -> str:
    """Returns `0.3%` of 0.003."""
    return f"{100 * probability:.6f}".rstrip("0").rstrip(".") + "%"
