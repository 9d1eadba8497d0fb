"""The section of days: lines, rates, and which columns drift."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from esmm_spark.pages import plots
from esmm_spark.pages.numbers import percent
from esmm_spark.pages.page import Figure, FigureGroup, PageSection, Table
from esmm_spark.profile.counts.drift import drift_of
from esmm_spark.profile.result import Profile
from esmm_spark.profile.sections.numbers import is_measured

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MOST_TICKS = 6


def section(found: Profile) -> PageSection | None:
    """Returns plots of lines and rates by day, and the drift of each column."""
    facts = found.facts
    if len(facts.periods) < 2:
        return None
    lines = [period.lines for period in next(iter(facts.drift.values()))]
    figures = [Figure(_lines_plot(facts.periods, lines), "Lines", "by day")]
    if facts.label_periods:
        figures.append(Figure(_rates_plot(found), "Rates", "of lines whose parent's label is 1, by day"))
    texts = [
        "Drift is the total variation distance between a day's shares of values and those of all "
        "days: 0 where the "
        "day is like all, 1 where it shares no value with them. Days of fewer than 100 lines are left out."
    ]
    values = {"texts": texts, "groups": [FigureGroup(figures)], "table": _drift_table(found)}
    return PageSection("Over days", "days.html", values)


def _drift_table(found: Profile) -> Table:
    drifts = []
    for guess in found.features:
        name = guess.column.name
        periods = found.facts.drift[name]
        drift = drift_of(periods)
        if drift is None:
            continue
        missing = [period.missing / period.lines for period in periods if period.lines]
        means = [period.mean for period in periods if period.mean is not None]
        cells = [
            f"{drift.distance:.3f}",
            found.facts.periods[drift.period],
            f"{percent(min(missing), 1)} to {percent(max(missing), 1)}",
            f"{min(means):.4g} to {max(means):.4g}" if means and is_measured(guess.column) else "",
        ]
        drifts.append((drift.distance, (name, cells)))
    drifts.sort(key=lambda each: -each[0])
    return Table(["Column", "Drift", "Farthest day", "Missing", "Mean"], [line for _, line in drifts])


def _lines_plot(names: Sequence[str], lines: Sequence[int]) -> Markup:
    def draw(axes: Any) -> None:
        axes.bar(range(len(lines)), lines, color=_COLOURS[0], width=0.7)
        plots.thousands(axes.yaxis)
        _day_axis(axes, names)

    return plots.svg(draw, "Lines by day", height=2.5)


def _rates_plot(found: Profile) -> Markup:
    def draw(axes: Any) -> None:
        for colour, (task, periods) in zip(_COLOURS, found.facts.label_periods.items(), strict=False):
            rates = [100 * positives / judged if judged else float("nan") for positives, judged in periods]
            axes.plot(range(len(rates)), rates, color=colour, marker="o", markersize=4, label=task)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("%")
        axes.legend(loc="best")
        _day_axis(axes, found.facts.periods)

    return plots.svg(draw, "Rates by day", height=2.5)


def _day_axis(axes: Any, names: Sequence[str]) -> None:
    step = -(-len(names) // _MOST_TICKS)
    axes.set_xticks(range(0, len(names), step), [name[5:10] for name in names[::step]])
    axes.grid(False, axis="x")
