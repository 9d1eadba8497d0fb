"""Guesses from names and counts: labels, context key, impression id, time."""

from collections.abc import Sequence
from typing import get_args

from esmm_spark.contracts.fields.amounts import name_words
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.labels import TableLabel
from esmm_spark.contracts.tables.log_files import TimeUnit
from esmm_spark.contracts.tasks import Task, Tasks
from esmm_spark.profile.counts.facts import ColumnFacts, TableFacts
from esmm_spark.profile.counts.roles import Roles
from esmm_spark.profile.guesses import names

# Lines that a guess may cost: of a key or time that is missing on more, preprocessing would reject too many.
_MOST_MISSING = 0.0005
_LEAST_PER_KEY = 1.05
# Of an id, as HyperLogLog counts.
_NEARLY_ALL = 0.97
_UNIT_US = {"s": 10**6, "ms": 10**3, "us": 1}
# 2000 to 2100.
_FIRST_US, _LAST_US = 946_684_800 * 10**6, 4_102_444_800 * 10**6
_NO_LABEL = "target"


def guess_roles(facts: TableFacts) -> Roles:
    """Returns what the columns' names and counts say that they are."""
    reasons: dict[str, str] = {}
    time, time_unit = _time(facts, reasons)
    labels = _labels(facts, reasons)
    tasks = None
    if labels:
        first, *rest = labels
        tasks = Tasks({first: Task(), **{name: Task(given=first) for name in rest}})
    key, is_recurring = _context_key(facts, reasons)
    return Roles(
        labels=labels,
        tasks=tasks,
        context_key=key,
        impression_id=_impression_id(facts, reasons),
        time=time,
        time_unit=time_unit,
        reasons=reasons,
        is_recurring=is_recurring,
    )


def sql_name(name: str) -> str:
    """Returns a path as SQL takes it."""
    return ".".join(f"`{part}`" for part in name.split("."))


def sql_is_missing(text: str) -> str:
    """Returns in SQL whether nothing stands where `text` leads, by the rules by which columns are counted."""
    return f"coalesce(trim(cast({text} as string)), '') in ('', 'NaN')"


def _labels(facts: TableFacts, reasons: dict[str, str]) -> dict[str, TableLabel]:
    flags = [column for column in facts.columns if column.is_flag and column.ones]
    labels = {}
    for task, words in names.TASK_WORDS.items():
        named = [column for column in flags if names.own_words(column.name) & words]
        named = [column for column in named if task == _deepest(column)]
        if named:
            column = min(named, key=lambda each: len(names.own_words(each.name)))
            labels[task] = _flag(column, f"labels.{task}", f"{column.name}: so it is called", reasons)
            continue
        event = _event_time(facts, words)
        if event is not None:
            share = f"{event.missing_share:.1%} of the lines have none"
            reasons[f"labels.{task}"] = f"{event.name} is a time, and {share}: 1 where there is one"
            source = ColumnSource(expr=f"if({sql_is_missing(sql_name(event.name))}, 0, 1)")
            labels[task] = TableLabel(flag=source)
    only = _only_flag(flags)
    if not labels and only is not None:
        reason = f"{only.name}: the one column of 0 and 1 that may be a label"
        labels[_NO_LABEL] = _flag(only, f"labels.{_NO_LABEL}", reason, reasons)
    return labels


def _deepest(column: ColumnFacts) -> str | None:
    """Returns the last task that a name has a word of: `click_order` is an order."""
    found = [task for task, words in names.TASK_WORDS.items() if name_words(column.name) & words]
    return found[-1] if found else None


def _flag(column: ColumnFacts, key: str, reason: str, reasons: dict[str, str]) -> TableLabel:
    shares = f"{column.ones:,} of {column.lines:,} lines have 1"
    if column.missing and column.ones == column.values:
        reasons[key] = f"{reason}; {shares}, the others nothing, which is taken for 0"
        name = sql_name(column.name)
        text = f"if({sql_is_missing(name)}, '0', cast({name} as string))"
        return TableLabel(flag=ColumnSource(expr=text))
    unknown = f", {column.missing:,} nothing: unknown" if column.missing else ""
    reasons[key] = f"{reason}; {shares}{unknown}"
    return TableLabel(flag=ColumnSource(column=column.name))


def _event_time(facts: TableFacts, words: set[str]) -> ColumnFacts | None:
    """Returns a column of an event's time: it is missing where the event didn't happen."""
    found = [
        column
        for column in facts.columns
        if column.shape == "value"
        and name_words(column.name) & words
        and name_words(column.name) & names.TIME_WORDS
        and column.values
        and column.missing_share > 0.5
    ]
    return found[0] if found else None


def _only_flag(flags: Sequence[ColumnFacts]) -> ColumnFacts | None:
    named = [column for column in flags if not names.own_words(column.name)]
    candidates = named or flags
    return candidates[0] if len(candidates) == 1 else None


def _time(facts: TableFacts, reasons: dict[str, str]) -> tuple[ColumnSource | None, TimeUnit]:
    for column in facts.columns:
        words = name_words(column.name)
        if not words & names.TIME_WORDS or words & names.NOT_TIME_WORDS or column.shape != "value":
            continue
        if names.is_outcome(column.name) or column.missing_share > _MOST_MISSING or column.distinct < 2:
            continue
        unit = unit_of_time(column)
        if unit is not None:
            reasons["time"] = f"from {column.first} to {column.last}, {_UNITS[unit]}"
            return ColumnSource(column=column.name), unit
        if _is_compact_day(column):
            reasons["time"] = f"days from {column.first} to {column.last}"
            text = f"cast({sql_name(column.name)} as string)"
            return ColumnSource(expr=f"to_timestamp({text}, 'yyyyMMdd')"), "iso"
    return None, "ms"


_UNITS = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "iso": "as text or timestamp",
}


def unit_of_time(column: ColumnFacts) -> TimeUnit | None:
    """Returns the unit in which all values are times from 2000 to 2100; None where they are none."""
    if column.shape != "value" or not column.values:
        return None
    if column.dates == column.values:
        return "iso"
    if not column.is_number:
        return None
    for unit in get_args(TimeUnit):
        scale = _UNIT_US.get(unit)
        lowest, highest = column.quantiles[0], column.quantiles[-1]
        if scale is not None and lowest * scale >= _FIRST_US and highest * scale < _LAST_US:
            return unit  # type: ignore[no-any-return]
    return None


def _is_compact_day(column: ColumnFacts) -> bool:
    if not column.is_number or column.wholes != column.values:
        return False
    return column.quantiles[0] >= 20_000_101 and column.quantiles[-1] <= 20_991_231


def _context_key(facts: TableFacts, reasons: dict[str, str]) -> tuple[ColumnSource | None, bool]:
    for words, is_recurring in ((names.REQUEST_WORDS, False), (names.USER_WORDS, True)):
        for column in facts.columns:
            own = name_words(column.name)
            if not own & words or own - words - names.ID_WORDS or not _is_key(column):
                continue
            each = column.values / column.distinct
            if each < _LEAST_PER_KEY:
                continue
            reasons["context_key"] = f"{each:.1f} lines share one of {column.distinct:,} values"
            return ColumnSource(column=column.name), is_recurring
    return None, False


def _impression_id(facts: TableFacts, reasons: dict[str, str]) -> ColumnSource | None:
    for column in facts.columns:
        own = name_words(column.name)
        is_named = (own & names.IMPRESSION_WORDS and not own - names.IMPRESSION_WORDS - names.ID_WORDS) or (
            own == {"id"}
        )
        if is_named and _is_key(column) and column.distinct >= _NEARLY_ALL * column.lines:
            reasons["impression_id"] = "each line has its own"
            return ColumnSource(column=column.name)
    return None


def _is_key(column: ColumnFacts) -> bool:
    """Returns whether a column can tell lines apart, as canonical lines take ids."""
    is_scalar = column.shape == "value" and not column.commas and column.distinct > 1
    return is_scalar and column.missing_share <= _MOST_MISSING
