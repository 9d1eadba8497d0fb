"""The config of one labelled table, a line per impression: `logs.table`."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.section import InputPath, Section
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tasks import Tasks

_LABEL_KEYS = ("flag", "time")


class TableLabel(Section):
    """The label of a task: a flag, written as its source alone, or the time of the event."""

    flag: Annotated[
        ColumnSource | None, Field(description="0 or 1, false or true; null where it isn't known.")
    ] = None
    time: Annotated[
        ColumnSource | None, Field(description="The time of the event: 1 where it isn't null, else 0.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _name_flag(cls, content: Any) -> Any:
        if isinstance(content, dict) and any(key in content for key in _LABEL_KEYS):
            return content
        return {"flag": content}

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.flag is None) == (self.time is None):
            raise ValueError("a label has either flag or time")
        return self


class TableSplits(Section):
    """Which lines train, validate and test; `samples.validation_fraction` is of the train split's groups."""

    test_fraction: Annotated[
        float, Field(ge=0, lt=1, description="Share of the context keys whose lines are the test split.")
    ] = 0
    seed: Annotated[int, Field(description="Seed of that share.")] = 42


class TableLog(Section):
    """A table with a line per impression: its labels, its features, what groups it."""

    path: Annotated[
        InputPath, Field(description="File or folder; files whose names begin with `.` or `_` are no part.")
    ]
    file_format: Annotated[
        Literal["parquet", "json", "csv"],
        Field(
            description="`json`: one object per line; `csv`: each file begins with the names of its columns."
        ),
    ] = "parquet"
    impression_id: Annotated[
        ColumnSource | None,
        Field(description="The impression's id; without one, `<file>:<number of the row>`."),
    ] = None
    context_key: Annotated[
        ColumnSource | None,
        Field(description="What a group shares, e.g. a request or a user; without one, groups of one."),
    ] = None
    features: Annotated[
        dict[str, ColumnSource],
        Field(
            min_length=1,
            description="Attribute, e.g. feature field's name -> its source: value, list, value -> weight.",
        ),
    ]
    labels: Annotated[
        dict[str, TableLabel], Field(description="Task -> its label. A table that is only scored has none.")
    ] = {}
    splits: Annotated[TableSplits, Field(description="Which lines train, validate and test.")] = TableSplits()
    on_difference: Annotated[
        Literal["error", "most_frequent"],
        Field(
            description="Where the lines of one context key differ in a feature of level `context`: end with "
            "an `error`, or take the context that most of its lines have."
        ),
    ] = "error"

    @property
    def sources(self) -> dict[str, ColumnSource]:
        """Key below `logs.table` -> the source that stands there."""
        found = {"impression_id": self.impression_id, "context_key": self.context_key}
        for task, label in self.labels.items():
            found[f"labels.{task}"] = label.flag or label.time
        found |= {f"features.{name}": source for name, source in self.features.items()}
        return {key: source for key, source in found.items() if source is not None}

    @property
    def source_texts(self) -> Iterator[str]:
        """The columns, paths and expressions that are read."""
        for source in self.sources.values():
            yield from source.texts


def require_sources(table: TableLog, fields: Iterable[str], carry: Iterable[str], tasks: Tasks) -> None:
    """Raises ValueError where a field, a carried column or a task has no source, or a label no task."""
    for what, names in (("features.fields", fields), ("samples.carry", carry)):
        nowhere = [name for name in names if name not in table.features]
        if nowhere:
            raise ValueError(
                f"{what} {', '.join(nowhere)} come from nowhere: name them in logs.table.features"
            )
    unlabelled = [name for name in tasks.names if name not in table.labels]
    if table.labels and unlabelled:
        raise ValueError(f"tasks {', '.join(unlabelled)} have no label: name them in logs.table.labels")
    strange = [name for name in table.labels if name not in tasks.names]
    if strange:
        raise ValueError(
            f"logs.table.labels {', '.join(strange)} are no tasks: name them in tasks "
            f"(now {tasks.described()}) or leave them out"
        )
