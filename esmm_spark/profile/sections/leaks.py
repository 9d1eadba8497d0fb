"""The section of how well each column alone separates the labels."""

from typing import Any

from markupsafe import Markup

from esmm_spark.pages import plots
from esmm_spark.pages.page import Figure, FigureGroup, PageSection
from esmm_spark.profile.guesses.features import LEAK_AUC
from esmm_spark.profile.result import Profile

_MOST_BARS = 15
_LEAK, _FINE = "#D55E00", "#0072B2"


def section(found: Profile) -> PageSection | None:
    """Returns a plot per label."""
    tasks = found.roles.tasks
    if tasks is None:
        return None
    roles = found.roles.among(found.facts.names)
    figures, missing = [], []
    for task in tasks.names:
        aucs = [
            (each.auc, name)
            for name, sample in found.facts.samples.items()
            if name not in roles
            for each in [sample.separations[task]]
            if each.auc is not None
        ]
        if not aucs:
            missing.append(f"{task}: the sample has too few lines of either label for an AUC")
            continue
        parent = tasks.parent(task)
        over = f"over lines with {parent} 1" if parent else "over all lines"
        figures.append(Figure(_plot(sorted(aucs)[-_MOST_BARS:], task), task, f"{over} of the sample"))
    texts = [
        f"AUC of one column alone, on {found.facts.sample_lines:,} lines: the better of its numbers "
        "in their order and "
        "of each value's rate, learned from one half of the contexts and judged on the other half. "
        "So an id that "
        "never comes back has 0.5.",
        f"Above {LEAK_AUC} a column is most likely written after the event. It would make a model "
        "that is perfect on "
        "paper and worth nothing at the impression.",
    ]
    values = {"texts": texts, "groups": [FigureGroup(figures)], "missing": missing}
    return PageSection("What tells the labels", "figures.html", values)


def _plot(aucs: list[tuple[float, str]], task: str) -> Markup:
    def draw(axes: Any) -> None:
        values, names = [auc for auc, _ in aucs], [name for _, name in aucs]
        colours = [_LEAK if auc > LEAK_AUC else _FINE for auc in values]
        axes.barh(range(len(values)), [value - 0.5 for value in values], left=0.5, color=colours, height=0.62)
        for place, value in enumerate(values):
            axes.annotate(
                f"{value:.3f}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
        axes.set_yticks(range(len(names)), names)
        axes.axvline(LEAK_AUC, color=_LEAK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlim(min(0.5, *values), 1.08)
        axes.set_xlabel("AUC of the column alone")
        axes.grid(False, axis="y")

    return plots.svg(draw, f"{task}: AUC of each column alone", height=0.9 + 0.22 * len(aucs))
