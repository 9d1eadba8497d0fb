"""Plots of the report as SVG: their common style, the colours of the series."""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from esmm_spark.contracts.schemas.targets import Target
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE, Ranking

# Okabe and Ito's colours, told apart with any colour vision; markers and dashes differ as well.
COLOURS = {MODEL: "#0072B2", BASELINE: "#D55E00", ORACLE: "#5B6470"}
MARKERS = {MODEL: "o", BASELINE: "s", ORACLE: "D"}
_DASHES = {MODEL: "-", BASELINE: (0, (5, 1.5)), ORACLE: (0, (1, 1.2))}
INK, _FAINT = "#39424E", "#E3E7EC"

_STYLE = {
    "svg.fonttype": "none",  # text stays text: selectable, and in the page's own font
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": "#B8C0CA",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
}


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


def thousands(axis: Any) -> None:
    """Writes an axis' numbers as `12,345`."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_major_locator(MaxNLocator(5))


def probability_label(probability: float) -> str:
    """Returns `0.3%` of 0.003."""
    return f"{100 * probability:.6f}".rstrip("0").rstrip(".") + "%"


def svg(draw: Callable[[Any], None], label: str, height: float, width: float = 4.4) -> Markup:
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
    return Markup(content.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1).strip())
