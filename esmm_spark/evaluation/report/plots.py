"""The report's plots, as SVG text to put into a page."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from esmm_spark.evaluation.measure.curves import CalibrationBin, Histogram
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE, Ranking, Target
from esmm_spark.evaluation.report.history import EpochPoint, History

# Okabe and Ito's colours, told apart with any colour vision; markers and dashes differ as well.
COLOURS = {MODEL: "#0072B2", BASELINE: "#D55E00", ORACLE: "#5B6470"}
_MARKERS = {MODEL: "o", BASELINE: "s", ORACLE: "D"}
_DASHES = {MODEL: "-", BASELINE: (0, (5, 1.5)), ORACLE: (0, (1, 1.2))}
_LABEL_COLOURS = ("#8A94A3", "#009E73")
_TASKS = {"ctr_auc": ("CTR", "#009E73", "o"), "cvr_auc": ("CVR on clicks", "#AA4499", "s")}
_TASKS["ctcvr_auc"] = ("CTCVR", "#B57700", "D")
_INK, _FAINT = "#39424E", "#E3E7EC"

_STYLE = {
    "svg.fonttype": "none",  # text stays text: selectable, and in the page's own font
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": "#B8C0CA",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
}
_TICKS = (
    *(m * 10.0**e for e in range(-9, -1) for m in (1, 3)),
    *(0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.997, 0.999, 0.9999, 0.99999, 0.999999),
)  # fmt: skip
_MAX_CURVE_POINTS = 1000


def auc_plot(measured: Measurements, target: Target, names: Mapping[str, str]) -> str:
    """Returns the AUCs of all series with their intervals, a row per series."""
    series = [name for name in measured.series if measured.estimate(name, target, "auc").value is not None]

    def draw(axes: Any) -> None:
        for row, name in enumerate(series):
            estimate = measured.estimate(name, target, "auc")
            low, high = estimate.interval or (estimate.value, estimate.value)
            axes.plot([low, high], [row, row], color=COLOURS[name], linewidth=3, alpha=0.45)
            axes.plot([estimate.value], [row], _MARKERS[name], color=COLOURS[name], markersize=7)
        axes.set_yticks(range(len(series)), [names[name] for name in series])
        axes.set_ylim(len(series) - 0.4, -0.6)
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("AUC")

    return _svg(draw, f"{target.title}: AUC with 95% intervals", height=1.0 + 0.28 * len(series))


def roc_plot(measured: Measurements, target: Target, names: Mapping[str, str]) -> str:
    """Returns the ROC curves of all series."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color="#B8C0CA", linewidth=1)
        for ranking in _drawn(measured, target):
            false_rate, true_rate = measured.curves[ranking].roc
            auc = measured.estimate(ranking.series, target, "auc").value
            label = f"{names[ranking.series]}  {auc:.4f}"
            axes.plot(false_rate, true_rate, label=label, **_line(ranking.series))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        _legend(axes, loc="lower right", title="AUC", alignment="right")

    return _svg(draw, f"{target.title}: ROC curves", height=3.7)


def calibration_plot(measured: Measurements, target: Target, names: Mapping[str, str]) -> str:
    """Returns observed rates over predicted ones, with 95% intervals."""

    def draw(axes: Any) -> None:
        drawn = _drawn(measured, target)
        points = [point for ranking in drawn for point in measured.curves[ranking].calibration]
        low, high, is_log = _limits(points)
        axes.plot([low, high], [low, high], color="#B8C0CA", linewidth=1)
        for ranking in drawn:
            _draw_bins(axes, measured.curves[ranking].calibration, ranking.series, names, low)
        if is_log:
            axes.set_xscale("log")
            axes.set_yscale("log")
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        for axis in (axes.xaxis, axes.yaxis):
            if is_log:
                axis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 3000 else (1,)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("predicted")
        axes.set_ylabel("observed")
        _legend(axes, loc="upper left")

    return _svg(draw, f"{target.title}: calibration curve", height=3.7)


def _draw_bins(
    axes: Any, curve: Sequence[CalibrationBin], series: str, names: Mapping[str, str], low: float
) -> None:
    predicted = [point.mean_score for point in curve]
    bars = [[max(point.low, low), point.high] for point in curve]
    axes.vlines(predicted, *zip(*bars, strict=True), color=COLOURS[series], alpha=0.35, linewidth=2)
    # A rate of 0 has no place on a logarithmic axis; its interval has.
    seen = [point for point in curve if point.rate > 0]
    style = _line(series) | {"linewidth": 1.2, "marker": _MARKERS[series], "markersize": 4}
    axes.plot([p.mean_score for p in seen], [p.rate for p in seen], label=names[series], **style)


def _limits(points: Sequence[CalibrationBin]) -> tuple[float, float, bool]:
    """Returns the ends of both axes, and whether they are logarithmic."""
    values = [value for point in points for value in (point.mean_score, point.rate) if value > 0]
    low, high = min(values, default=0.1), max(values, default=1.0)
    if high / low < 8:
        return 0.0, min(1.0, 1.1 * high), False
    return 0.7 * low, 1.4 * high, True


def histogram_plot(found: Histogram, title: str, name: str, labels: tuple[str, str]) -> str:
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
        axes.set_xticks([np.log(p / (1 - p)) for p in ticks], [_percent(p) for p in ticks])
        axes.set_xlabel("score (scale of log-odds)")
        axes.set_ylabel("% of the label's impressions")
        axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.22)
        axes.legend(loc="upper left", ncols=2, handlelength=1.4, columnspacing=1.2)

    return _svg(draw, f"{name}, {title}: histogram of scores by label", height=2.7)


def loss_plot(history: History) -> str:
    """Returns the training loss by step, with the ends of epochs."""
    steps = history.steps[:: 1 + len(history.steps) // _MAX_CURVE_POINTS]

    def draw(axes: Any) -> None:
        axes.plot([s.step for s in steps], [s.loss for s in steps], color=COLOURS[MODEL], linewidth=1.4)
        for epoch in history.epochs:
            axes.axvline(epoch.step, color="#B8C0CA", linewidth=1, linestyle=(0, (2, 2)))
        axes.set_xlabel("step (dashed: end of an epoch)")
        axes.set_ylabel("training loss (nats)")
        _thousands(axes.xaxis)

    return _svg(draw, "Training loss by step", height=2.8)


def validation_plot(history: History) -> str:
    """Returns the validation AUCs by epoch."""

    def draw(axes: Any) -> None:
        for key, (label, colour, marker) in _TASKS.items():
            known = [epoch for epoch in history.epochs if _metric(epoch, key) is not None]
            if known:
                values = [_metric(epoch, key) for epoch in known]
                numbers = [epoch.epoch + 1 for epoch in known]
                axes.plot(numbers, values, color=colour, marker=marker, markersize=5, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation AUC")
        axes.margins(x=0.08, y=0.25)
        axes.legend(loc="upper left", ncols=3, handlelength=1.2, columnspacing=1.0)

    return _svg(draw, "Validation AUC by epoch", height=2.8)


def speed_plot(history: History) -> str:
    """Returns the impressions per second by step."""
    steps = [step for step in history.steps if step.impressions_per_s is not None]
    steps = steps[:: 1 + len(steps) // _MAX_CURVE_POINTS]

    def draw(axes: Any) -> None:
        speeds = [step.impressions_per_s for step in steps]
        axes.plot([step.step for step in steps], speeds, color=_INK, linewidth=1.2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step")
        axes.set_ylabel("impressions per second")
        _thousands(axes.xaxis)
        _thousands(axes.yaxis)

    return _svg(draw, "Training speed by step", height=2.8)


def _metric(epoch: EpochPoint, key: str) -> float | None:
    value: float | None = getattr(epoch, key)
    return value


def _drawn(measured: Measurements, target: Target) -> list[Ranking]:
    """Returns the rankings of a target that have curves; the model's is drawn last, on top."""
    rankings = [Ranking(series, target) for series in reversed(measured.series)]
    return [ranking for ranking in rankings if ranking in measured.curves]


def _legend(axes: Any, **options: str) -> None:
    """Draws the legend in the order of the tables; the curves are drawn in the opposite one."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], **options)


def _line(series: str) -> dict[str, Any]:
    return {"color": COLOURS[series], "linestyle": _DASHES[series]}


def _thousands(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_major_locator(MaxNLocator(5))


def _percent(probability: float) -> str:
    return f"{100 * probability:.6f}".rstrip("0").rstrip(".") + "%"


def _probability_ticks(low: float, high: float) -> list[float]:
    """Returns probabilities between two log-odds, far enough apart to be written side by side."""
    ticks: list[float] = []
    for probability in _TICKS:
        at = np.log(probability / (1 - probability))
        room = (high - low) / 6
        if low <= at <= high and (not ticks or at - np.log(ticks[-1] / (1 - ticks[-1])) >= room):
            ticks.append(probability)
    return ticks


def _svg(draw: Callable[[Any], None], label: str, height: float, width: float = 4.4) -> str:
    """Returns what `draw` draws on one pair of axes, as an `<svg>` element that scales with the page.

    Args:
        draw: draws.
        label: what the plot shows, for those who can't see it, and the salt of the element's ids.
        height: in inches.
        width: in inches.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(width, height))
        draw(figure.subplots())
        # Without them the file would hold the time and addresses in the web.
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    content = buffer.getvalue()
    content = content[content.index("<svg") :]
    # Names like figure_1 come back in every plot of a page and nothing refers to them.
    content = re.sub(r' id="[\w.]*_\d+"', "", content)
    content = re.sub(r' (width|height)="[\d.]+pt"', "", content, count=2)
    return content.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1).strip()
