"""Which columns are the table's keys, times and labels: guessed, or as a config has them."""

from collections.abc import Mapping
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

    @property
    def columns(self) -> dict[str, str]:
        """Column -> what it is."""
        found: dict[str, str] = {}
        for what, source in (
            ("context_key", self.context_key),
            ("impression_id", self.impression_id),
            ("time", self.time),
            ("splits", self.splits.column if self.splits else None),
        ):
            found |= dict.fromkeys(_named(source), what)
        for task, label in self.labels.items():
            found |= dict.fromkeys(_named(label.flag or label.time), f"label of {task}")
        return found


def _named(source: ColumnSource | None) -> list[str]:
    """Returns the columns that a source names, those in expressions by their quotes."""
    if source is None:
        return []
    names = []
    for text in source.texts:
        names += [text] if source.expr is None else text.split("`")[1::2]
    return names


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
