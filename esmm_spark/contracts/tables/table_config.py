"""The config of one flat table, a line per impression: `logs.table`."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from esmm_spark.contracts.section import Needs
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.labels import TableLabel
from esmm_spark.contracts.tables.log_files import FormatName, MappedFiles
from esmm_spark.contracts.tables.splits import TableSplits
from esmm_spark.contracts.tasks import Tasks


def _moment(value: Any) -> Any:
    """Returns a time, as YAML reads it or as text, as ISO 8601 text."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("it is no time: write it like 2026-11-24T06:00:00") from error
    return value


class TableLog(MappedFiles):
    """A table with a line per impression: its labels, its features, what groups it."""

    file_format: Annotated[
        FormatName,
        Field(
            description="`json`: one object per line; `csv`: each file begins with the names of its columns, "
            "unless `column_names` has them."
        ),
    ] = "parquet"
    delimiter: Annotated[
        str,
        Field(min_length=1, max_length=1, description='Of `csv`; of tab-separated files `"\\t"`.'),
        Needs("file_format", value="csv"),
    ] = ","
    column_names: Annotated[
        list[str],
        Field(description="Of `csv` files that begin with no names: those of all columns, in order."),
        Needs("file_format", value="csv"),
    ] = []
    day_folders: Annotated[
        str | None,
        Field(
            pattern="^[A-Za-z0-9_-]+$",
            description="`ds` where the files lie in folders `ds=2026-11-23` or `ds=20261123`; it is a "
            "column, too.",
        ),
    ] = None
    impression_id: Annotated[
        ColumnSource | None,
        Field(description="The impression's id; without one, `<file>:<number of the line>`."),
    ] = None
    context_key: Annotated[
        ColumnSource | None,
        Field(description="What a group shares, e.g. a request or a user; without one, groups of one."),
    ] = None
    time: Annotated[
        ColumnSource | None,
        Field(description="The impression's time, for windows, `as_of`, splits by day and `first`."),
    ] = None
    ingest_time: Annotated[
        ColumnSource | None,
        Field(
            description="When the line arrived: a line that arrived after `as_of` is left out, and noted as "
            "`after_as_of`. By default a line is known at its `time`."
        ),
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
    as_of: Annotated[
        str | None,
        BeforeValidator(_moment),
        Field(description="Nothing after this time is known: `2026-11-24T06:00:00`, of `time_zone`."),
    ] = None
    immature: Annotated[
        Literal["drop", "keep", "unknown"],
        Field(
            description="What becomes of an impression with a window that ends after `as_of` and no event "
            "yet: `drop` (noted), `keep` with 0, or its label is `unknown` (`samples.unknown_labels`)."
        ),
        Needs("as_of"),
    ] = "drop"
    splits: Annotated[TableSplits, Field(description="Which lines train, validate and test.")] = TableSplits()
    on_difference: Annotated[
        Literal["error", "first", "most_frequent"],
        Field(
            description="Where the lines of one context key differ in a feature of level `context`: end with "
            "an `error`, or take the context of the `first` by `time`, or the one that most lines have."
        ),
        Needs("context_key"),
    ] = "error"

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        has_days = self.day_folders is not None or self.time is not None
        if self.splits.is_by_day and not has_days:
            raise ValueError("splits by day need the day of a line: set time or day_folders")
        if self.ingest_time is not None and self.as_of is None:
            raise ValueError("ingest_time tells which lines were known by as_of: set as_of")
        if self.time is None:
            needing = [
                name
                for name, is_set in (
                    ("as_of", self.as_of is not None),
                    ("on_difference: first", self.on_difference == "first"),
                    ("labels with window_s", any(label.window_s for label in self.labels.values())),
                )
                if is_set
            ]
            if needing:
                raise ValueError(f"{needing[0]} needs the impression's time: set time")
        return self

    @property
    def as_of_us(self) -> int | None:
        """`as_of` in microseconds since 1970."""
        if self.as_of is None:
            return None
        moment = datetime.fromisoformat(self.as_of)
        moment = moment.replace(tzinfo=ZoneInfo(self.time_zone)) if moment.tzinfo is None else moment
        since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    @property
    def sources(self) -> dict[str, ColumnSource]:
        """Key below `logs.table` -> the source that stands there."""
        found = {
            "impression_id": self.impression_id,
            "context_key": self.context_key,
            "time": self.time,
            "ingest_time": self.ingest_time,
            "splits.column": self.splits.column,
        }
        for task, label in self.labels.items():
            found[f"labels.{task}"] = label.flag or label.time
        found |= {f"features.{name}": source for name, source in self.features.items()}
        return {key: source for key, source in found.items() if source is not None}

    @property
    def source_texts(self) -> Iterator[str]:
        """The columns, paths and expressions that are read."""
        yield from (text for text in (self.where, self.explode) if text is not None)
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
