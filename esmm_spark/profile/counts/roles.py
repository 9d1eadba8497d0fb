"""Which columns are the table's keys, times and labels: guessed, or as a config has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.labels import TableLabel
from esmm_spark.contracts.tables.log_files import TimeUnit
from esmm_spark.contracts.tables.splits import TableSplits
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.contracts.tasks import Tasks


@dataclass(frozen=True)
class Roles:
    """What columns are beside features.

    Attributes:
        labels: task -> its label, in the order of `tasks`.
        tasks: None where no label is known.
        context_key: None: groups of one.
        impression_id: None: made of file and line.
        time: None where there is none.
        time_unit: of `time` and of labels by time.
        splits: None: what a guess makes of the days.
        reasons: key of `logs.table`, or `labels.<task>`, -> why it was guessed.
        is_recurring: whether the context key is one that comes back, such as a user: a feature, too.
    """

    labels: Mapping[str, TableLabel] = field(default_factory=dict)
    tasks: Tasks | None = None
    context_key: ColumnSource | None = None
    impression_id: ColumnSource | None = None
    time: ColumnSource | None = None
    time_unit: TimeUnit = "ms"
    splits: TableSplits | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    is_recurring: bool = False

    def among(self, columns: Sequence[str]) -> dict[str, str]:
        """Returns column -> what it is, of those of `columns` that are something.

        A label is all columns that it is made of, since they tell it. What else is made of several columns is
        none of them: the position in an id of request and position is a position still.
        """
        found: dict[str, str] = {}
        for what, source in (
            ("context_key", self.context_key),
            ("impression_id", self.impression_id),
            ("time", self.time),
            ("splits", self.splits.column if self.splits else None),
        ):
            named = _named(source, columns)
            if len(named) == 1:
                found[named[0]] = what
        for task, label in self.labels.items():
            found |= dict.fromkeys(_named(label.flag or label.time, columns), f"label of {task}")
        return found


def _named(source: ColumnSource | None, columns: Sequence[str]) -> list[str]:
    """Returns those of the columns that a source is made of, paths into or out of its own among them."""
    names = {name.lower() for name in source.names} if source is not None else set()
    return [column for column in columns if any(_overlap(column.lower(), name) for name in names)]


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def roles_of_config(table: TableLog, tasks: Tasks) -> Roles:
    """Returns the roles that a config gives; a table without labels has no tasks."""
    return Roles(
        labels={name: table.labels[name] for name in tasks.names if name in table.labels},
        tasks=tasks if table.labels else None,
        context_key=table.context_key,
        impression_id=table.impression_id,
        time=table.time,
        time_unit=table.time_unit,
        splits=table.splits,
        is_recurring=True,
    )
