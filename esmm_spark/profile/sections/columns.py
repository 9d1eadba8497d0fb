"""The section of all columns: what they hold and what they are used as."""

from typing import NamedTuple

from esmm_spark.pages.numbers import percent
from esmm_spark.pages.page import PageSection
from esmm_spark.profile.counts.facts import ColumnFacts, FeatureGuess, SampleFacts
from esmm_spark.profile.result import Profile

_SHOWN_VALUES, _SHOWN_CHARACTERS = 3, 24


class _Line(NamedTuple):
    """A column of the table."""

    name: str
    type: str
    use: str
    is_used: bool
    missing: str
    distinct: str
    holds: str
    auc: str


def section(found: Profile) -> PageSection:
    """Returns a line per column."""
    texts = [
        "Distinct values are counted by HyperLogLog, to 0.8%, and quantiles to a thousandth of the "
        "ranks. AUC is how "
        "well the column alone separates a label: 0.5 not at all, above 0.95 it leaks."
    ]
    lines = [_line(guess, found) for guess in found.features]
    return PageSection("Columns", "columns.html", {"texts": texts, "lines": lines})


def _line(guess: FeatureGuess, found: Profile) -> _Line:
    column = guess.column
    aucs = [each.auc for each in found.facts.samples.get(column.name, SampleFacts()).separations.values()]
    best = max((auc for auc in aucs if auc is not None), default=None)
    use = f"{guess.level} feature" if guess.level else guess.reason
    return _Line(
        name=column.name,
        type=column.type,
        use=use,
        is_used=guess.level is not None,
        missing=percent(column.missing, column.lines),
        distinct=f"{column.distinct:,}",
        holds=holds(column, found),
        auc="" if best is None or guess.reason.startswith("label of") else f"{best:.3f}",
    )


def holds(column: ColumnFacts, found: Profile) -> str:
    """Returns what stands in a column, in a few words: quantiles of numbers, else frequent values."""
    if not column.values:
        return "nothing"
    parts = []
    if column.is_number and column.wholes < column.numbers:
        low, median, high = column.quantiles[0], column.quantiles[10], column.quantiles[-1]
        parts.append(f"{low:g} to {high:g}, median {median:g}")
    elif column.distinct > column.values / 2:
        parts.append(f"{shortened(column.first or '')} to {shortened(column.last or '')}")
    else:
        top = found.facts.top.get(column.name, ())[:_SHOWN_VALUES]
        parts.append(
            ", ".join(f"{shortened(each.value)} {percent(each.times, column.values)}" for each in top)
        )
    if column.lengths:
        parts.append(f"lengths: median {column.lengths[0]:g}, at most {column.lengths[-1]:g}")
    return "; ".join(parts)


def shortened(text: str) -> str:
    """Returns a value for a narrow column."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}\N{HORIZONTAL ELLIPSIS}"
