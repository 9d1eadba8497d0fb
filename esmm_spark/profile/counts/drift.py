"""How much a column's values change over days."""

from collections.abc import Sequence
from typing import NamedTuple

from esmm_spark.profile.counts.facts import PeriodFacts

# Periods of fewer lines are compared with nothing: chance alone moves shares.
MIN_LINES = 100


class Drift(NamedTuple):
    """The period whose values differ most from those of all periods.

    Attributes:
        distance: total variation distance of its shares of frequent values, other values and none: 0 to 1.
        period: its number.
    """

    distance: float
    period: int


def drift_of(periods: Sequence[PeriodFacts]) -> Drift | None:
    """Returns the largest drift; None where fewer than two periods have MIN_LINES lines.

    Source: total variation distance, 1/2 sum_i |p_i - q_i|, between the shares of a period and of all lines.
    """
    if sum(period.lines >= MIN_LINES for period in periods) < 2:
        return None
    whole = _shares(periods)
    found = [
        Drift(0.5 * sum(abs(share - own.get(value, 0.0)) for value, share in whole.items()), number)
        for number, period in enumerate(periods)
        if period.lines >= MIN_LINES
        for own in [_shares([period])]
    ]
    return max(found)


def _shares(periods: Sequence[PeriodFacts]) -> dict[str | None, float]:
    """Returns value -> share of what stands on the lines; "" of other values, None of lines without any."""
    counts: dict[str | None, int] = {None: 0, "": 0}
    for period in periods:
        counts[None] += period.missing
        counts[""] += period.values - sum(period.tops.values())
        for value, count in period.tops.items():
            counts[value] = counts.get(value, 0) + count
    total = max(sum(counts.values()), 1)
    return {value: count / total for value, count in counts.items()}
