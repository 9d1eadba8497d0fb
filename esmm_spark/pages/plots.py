"""Plots as SVG in the style of the page."""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

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


def thousands(axis: Any) -> None:
    """Writes an axis' numbers as `12,345`."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_major_locator(MaxNLocator(5))


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
