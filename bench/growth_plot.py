"""The plot of `bench/scaling.py`: how time, memory and bytes grow, and what a large arena costs."""

from pathlib import Path
from typing import Any

from bench.results import Results

_GIB, _MIB = 2**30, 2**20


def plot_growth(results: Results, path: Path) -> None:
    """Writes a PNG of the stage `growth`, on logarithmic axes; dotted is what grows in proportion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    details = results.stages["growth"].details
    sizes, arenas = details["sizes"], details["arenas"]
    impressions, rows = [size["impressions"] for size in sizes], [arena["rows"] for arena in arenas]
    panels: list[tuple[str, str, list[float], dict[str, list[float]]]] = [
        (
            "seconds, of the whole command",
            "impressions",
            impressions,
            {
                "preprocess": [size["preprocess"]["wall_s"] for size in sizes],
                "preprocess, CPU": [size["preprocess"]["cpu_s"] for size in sizes],
                "an epoch of training": [size["train"]["wall_s"] for size in sizes],
            },
        ),
        (
            "GiB of memory at most",
            "impressions",
            impressions,
            {
                "preprocess": [size["preprocess"]["peak_mib"] / 1024 for size in sizes],
                "training": [size["train"]["peak_mib"] / 1024 for size in sizes],
            },
        ),
        (
            "MiB on disk",
            "impressions",
            impressions,
            {
                "raw logs": [size["raw_bytes"] / _MIB for size in sizes],
                "examples": [size["written_bytes"] / _MIB for size in sizes],
            },
        ),
        (
            "what an arena costs",
            "rows",
            rows,
            {
                "training, thousand impressions/s": [arena["rate"] / 1e3 for arena in arenas],
                "arena and state, GiB": [arena["bytes"] / _GIB for arena in arenas],
            },
        ),
    ]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(15, 3.6))
    for axis, (title, of_what, x, lines) in zip(axes, panels, strict=True):
        for number, (name, values) in enumerate(lines.items()):
            _line(axis, x, values, name, above=number < 2)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel(of_what)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _line(axis: Any, x: list[float], y: list[float], name: str, above: bool = True) -> None:
    """Draws a line with its values above or below it, and a dotted one that grows as x does."""
    (drawn,) = axis.loglog(x, y, marker="o", label=name)
    axis.loglog(
        x, [y[0] * value / x[0] for value in x], linestyle=":", linewidth=0.8, color=drawn.get_color()
    )
    for at, value in zip(x, y, strict=True):
        text = f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
        axis.annotate(
            text,
            (at, value),
            textcoords="offset points",
            xytext=(0, 5 if above else -11),
            fontsize=7,
            ha="center",
        )
    axis.set_xticks(x, [f"{value / 1e6:.0f}M" for value in x])
    axis.minorticks_off()
    axis.margins(x=0.12, y=0.15)
