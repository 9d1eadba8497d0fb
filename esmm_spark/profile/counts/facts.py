"""What a profile knows of a table and of its columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from esmm_spark.contracts.fields.field_spec import Level

# `value`: one a line; `list`: several; `weights`: a map from values to weights.
Shape = Literal["value", "list", "weights"]

# The shares at which quantiles of numbers and of lengths are taken.
NUMBER_SHARES = tuple(step / 20 for step in range(21))
TAIL_SHARES = (0.01, 0.99)
LENGTH_SHARES = (0.5, 0.95, 1.0)


@dataclass(frozen=True)
class ColumnFacts:
    """One column, counted over all lines.

    Attributes:
        name: a column, or a path into one.
        type: as the files have it, in Spark's words.
        shape: what a line holds.
        lines: all lines.
        missing: lines without a value.
        values: values on all lines; of a list each of its items.
        distinct: of these, by HyperLogLog, whose standard error is 0.8%; exact where there are few.
        numbers: of the values, those that are numbers.
        wholes: of the numbers, those without a fraction.
        flags: of the values, those that are 0, 1, true or false.
        ones: of these, those that are 1 or true.
        dates: of the values, those that begin like 2026-11-23.
        commas: of the values, those with a comma.
        mean: of the numbers; None where there are none.
        quantiles: of the numbers, at NUMBER_SHARES; empty where there are none.
        tails: of the numbers, at TAIL_SHARES; empty where there are none.
        first: the smallest value as text; None where there is none.
        last: the largest one.
        lengths: of lists, at LENGTH_SHARES; empty of other shapes.
        mean_length: of lists.
    """

    name: str
    type: str
    shape: Shape
    lines: int
    missing: int
    values: int
    distinct: int
    numbers: int = 0
    wholes: int = 0
    flags: int = 0
    ones: int = 0
    dates: int = 0
    commas: int = 0
    mean: float | None = None
    quantiles: Sequence[float] = ()
    tails: Sequence[float] = ()
    first: str | None = None
    last: str | None = None
    lengths: Sequence[float] = ()
    mean_length: float | None = None

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers."""
        return self.numbers == self.values > 0

    @property
    def is_flag(self) -> bool:
        """Whether there are no values but 0, 1, true and false, and a line has at most one."""
        return self.shape == "value" and self.flags == self.values > 0

    @property
    def is_constant(self) -> bool:
        """Whether all lines have the same value, or none has any."""
        return self.values == 0 or (self.distinct == 1 and self.missing == 0 and self.shape == "value")

    @property
    def missing_share(self) -> float:
        """Lines without a value / lines."""
        return self.missing / max(self.lines, 1)


class ValueCount(NamedTuple):
    """A frequent value, counted over all lines.

    Attributes:
        value: as text.
        times: that it stands on a line.
        rates: task -> share of its lines with label 1, of those whose parent's is 1 and whose own is known.
    """

    value: str
    times: int
    rates: Mapping[str, float]


class PeriodFacts(NamedTuple):
    """A column in one period: a day, or some days of a longer log.

    Attributes:
        lines: lines.
        missing: lines without a value.
        values: values on them.
        mean: of the numbers; None where there are none.
        tops: frequent value -> times that it stands there.
    """

    lines: int
    missing: int
    values: int
    mean: float | None
    tops: Mapping[str, int]


class Separation(NamedTuple):
    """How well one column alone tells a task's labels apart, on the sample.

    Attributes:
        by_number: AUC of the column's numbers, in the better direction; None where it has none.
        by_value: AUC of each value's rate, learned from one half of the groups and judged on the other one.
    """

    by_number: float | None
    by_value: float | None

    @property
    def auc(self) -> float | None:
        """The better of the two."""
        return max((auc for auc in self if auc is not None), default=None)


@dataclass(frozen=True)
class SampleFacts:
    """One column in a sample of whole groups.

    Attributes:
        separations: task -> how well the column separates it.
        differing: context keys of several lines within which it differs.
        later: lines on which its number, taken for a time, is after the impression's.
    """

    separations: Mapping[str, Separation] = field(default_factory=dict)
    differing: int = 0
    later: int = 0


@dataclass(frozen=True)
class TableFacts:
    """A table.

    Attributes:
        path: as it was named.
        lines: all lines.
        malformed: of these, those that could not be parsed; they count nowhere else.
        columns: all that can be read, in the table's order.
        sample_lines: lines of the sample.
        sample_keys: context keys in it with several lines.
        samples: column -> what the sample tells.
        top: column -> its frequent values, the most frequent first.
        periods: names of periods, in order; empty where lines have no day.
        drift: column -> a period each.
        labels: task -> (lines with label 1, lines whose parent's label is 1), of all lines.
        label_periods: task -> the same of each period.
        orphans: task -> lines whose label is 1 where the parent's is not.
        unknown: task -> lines whose label isn't known, of those by time none.
    """

    path: str
    lines: int
    malformed: int
    columns: Sequence[ColumnFacts]
    sample_lines: int = 0
    sample_keys: int = 0
    samples: Mapping[str, SampleFacts] = field(default_factory=dict)
    top: Mapping[str, Sequence[ValueCount]] = field(default_factory=dict)
    periods: Sequence[str] = ()
    drift: Mapping[str, Sequence[PeriodFacts]] = field(default_factory=dict)
    labels: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    label_periods: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    orphans: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]

    def distinct_of(self, name: str) -> int:
        """Returns how many values a column has; 0 where there is none of that name."""
        return next((column.distinct for column in self.columns if column.name == name), 0)

    def column(self, name: str) -> ColumnFacts:
        """Returns a column by name."""
        return next(column for column in self.columns if column.name == name)


class FeatureGuess(NamedTuple):
    """A column as a feature, or why it is none.

    Attributes:
        column: its facts.
        level: whose it is; None where it is no feature.
        reason: why so.
        num_buckets: of its table; 0 of numbers, which need none.
        min_count: as in `features.fields`.
        boundaries: where the buckets of its numbers begin; empty where each value has its own.
    """

    column: ColumnFacts
    level: Level | None
    reason: str
    num_buckets: int = 0
    min_count: int = 1
    boundaries: Sequence[float] = ()
