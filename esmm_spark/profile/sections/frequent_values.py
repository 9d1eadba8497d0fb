"""The section of frequent values: how often each stands there, and how often the event follows."""

from collections.abc import Sequence

from esmm_spark.pages.numbers import percent
from esmm_spark.pages.page import PageSection
from esmm_spark.profile.counts.facts import FeatureGuess
from esmm_spark.profile.result import Profile
from esmm_spark.profile.sections.columns import shortened

_SHOWN = 5
# A column, and of each value its text, times, share and rates.
_Block = tuple[str, list[tuple[str, str, str, list[str]]]]


def section(found: Profile) -> PageSection | None:
    """Returns the most frequent values of each column that has values that come back, features first."""
    tasks = list(found.roles.tasks.names) if found.roles.tasks else []
    groups = [
        ("Features", _blocks(found.chosen, found, tasks)),
        ("Left out", _blocks(found.left_out, found, tasks)),
    ]
    groups = [(heading, blocks) for heading, blocks in groups if blocks]
    if not groups:
        return None
    overall = {
        task: percent(*found.facts.labels[task]) for task in tasks if found.facts.labels.get(task, (0, 0))[1]
    }
    rates = ", ".join(f"{rate} {task}" for task, rate in overall.items())
    texts = [
        "Counted over all lines. Rates are of the lines on which a value stands, given the parent's label; "
        f"of all lines they are {rates}."
        if rates
        else "Counted over all lines."
    ]
    return PageSection("Frequent values", "values.html", {"texts": texts, "tasks": tasks, "groups": groups})


def _blocks(guesses: Sequence[FeatureGuess], found: Profile, tasks: Sequence[str]) -> list[_Block]:
    blocks = []
    for guess in guesses:
        column = guess.column
        top = found.facts.top.get(column.name, ())[:_SHOWN]
        if not top or top[0].times < 2:
            continue
        values = [
            (
                shortened(each.value),
                f"{each.times:,}",
                percent(each.times, column.values),
                [percent(each.rates[task], 1) if task in each.rates else "n/a" for task in tasks],
            )
            for each in top
        ]
        blocks.append((column.name, values))
    return blocks
