"""Which lines train, validate and test: by a column that says so, else by days, else a share."""

from collections.abc import Sequence
from dataclasses import replace

from esmm_spark.contracts.schemas.split_names import TEST, TRAIN, SplitName
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.splits import TableSplits
from esmm_spark.profile.counts.facts import ColumnFacts, TableFacts, ValueCount
from esmm_spark.profile.counts.roles import Roles
from esmm_spark.profile.guesses import names

_TEST_FRACTION = 0.2
# Of a test split by day: shares of all lines.
_LEAST_TEST, _MOST_TEST = 0.01, 0.5


def with_split_column(facts: TableFacts, roles: Roles) -> Roles:
    """Returns the roles with `splits` where a column has no values but words for train, test and validation.

    Args:
        facts: of all three passes: the values are among the frequent ones.
        roles: without `splits`.
    """
    others = roles.among(facts.names)
    for column in facts.columns:
        values = _values_of_splits(column, facts.top.get(column.name, ()))
        if values is None or column.name in others:
            continue
        counts = {top.value: top.times for top in facts.top[column.name]}
        described = ", ".join(f"{counts[value]:,} {value}" for own in values.values() for value in own)
        splits = TableSplits(column=ColumnSource(column=column.name), values=values)
        reasons = {**roles.reasons, "splits": f"{column.name} says which: {described}"}
        return replace(roles, splits=splits, reasons=reasons)
    return roles


def _values_of_splits(column: ColumnFacts, top: Sequence[ValueCount]) -> dict[SplitName, list[str]] | None:
    """Returns split -> the column's values that name it; None where one names none, or a line has none."""
    is_all = (
        column.shape == "value" and column.missing == 0 and sum(value.times for value in top) == column.values
    )
    if not is_all:
        return None
    found: dict[SplitName, list[str]] = {}
    for value, *_ in top:
        named = [split for split, words in names.SPLIT_WORDS.items() if value.lower() in words]
        if not named:
            return None
        found.setdefault(named[0], []).append(value)
    return found if {TRAIN, TEST} <= found.keys() else None


def split_rule(facts: TableFacts, roles: Roles) -> tuple[TableSplits, str]:
    """Returns the rule that is known, else the last period for test, else a share of keys; and why."""
    if roles.splits is not None:
        return roles.splits, roles.reasons.get("splits", "as the config has it")
    if len(facts.periods) > 2:
        lines = [period.lines for period in next(iter(facts.drift.values()))]
        share = lines[-1] / max(sum(lines), 1)
        if _LEAST_TEST <= share <= _MOST_TEST:
            day = facts.periods[-1].split(" ")[0]
            return TableSplits.model_validate(
                {"test_from": day}
            ), f"from {day} on test: {share:.1%} of the lines"
    tested = "context keys" if roles.context_key else "lines"
    return TableSplits(test_fraction=_TEST_FRACTION), f"{_TEST_FRACTION:.0%} of the {tested} test"
