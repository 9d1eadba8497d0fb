"""The section of numbers and lists: quantiles, and how long lists are."""

from esmm_spark.pages.page import PageSection
from esmm_spark.profile.counts.facts import NUMBER_SHARES, ColumnFacts, FeatureGuess
from esmm_spark.profile.guesses.role_guess import unit_of_time
from esmm_spark.profile.result import Profile

_HEADS = ("Lowest", "1%", "5%", "25%", "Median", "75%", "95%", "99%", "Highest", "Mean")
_LENGTH_HEADS = ("Median", "95%", "Longest", "Mean")
_Line = tuple[str, bool, list[str]]


def section(found: Profile) -> PageSection | None:
    """Returns the quantiles of each column of numbers, and of the lengths of each column of lists."""
    numbers = [
        _line(guess, _quantiles(guess.column)) for guess in found.features if is_measured(guess.column)
    ]
    lengths = [_line(guess, _lengths(guess.column)) for guess in found.features if guess.column.lengths]
    tables = [
        (heading, heads, lines)
        for heading, heads, lines in (
            ("Numbers", _HEADS, numbers),
            ("Lengths of lists", _LENGTH_HEADS, lengths),
        )
        if lines
    ]
    if not tables:
        return None
    texts = [
        "Quantiles of all lines on which a number stands, of lists those of their items; to a thousandth of "
        "the ranks. Columns of nothing but 0 and 1, and times, are left out."
    ]
    return PageSection("Numbers and lists", "numbers.html", {"texts": texts, "tables": tables})


def is_measured(column: ColumnFacts) -> bool:
    """Returns whether a column holds numbers that are neither flags nor times."""
    return column.is_number and not column.is_flag and unit_of_time(column) is None


def _line(guess: FeatureGuess, cells: list[str]) -> _Line:
    return guess.column.name, guess.level is not None, cells


def _quantiles(column: ColumnFacts) -> list[str]:
    at = dict(zip(NUMBER_SHARES, column.quantiles, strict=True))
    first, last = column.tails
    shown = [at[0.0], first, at[0.05], at[0.25], at[0.5], at[0.75], at[0.95], last, at[1.0]]
    return [*map(_short, shown), "" if column.mean is None else _short(column.mean)]


def _lengths(column: ColumnFacts) -> list[str]:
    return [*map(_short, column.lengths), "" if column.mean_length is None else _short(column.mean_length)]


def _short(number: float) -> str:
    """Returns a number of five significant digits, a whole one with all: `1,234,567`, `0.012346`."""
    is_short_whole = float(number).is_integer() and abs(number) < 1e9
    return f"{number:,.0f}" if is_short_whole else f"{number:.5g}"
