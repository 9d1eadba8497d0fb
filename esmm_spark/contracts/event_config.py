"""The config of event logs: `logs.events`. docs/events.md tells what each key does to the join.

Whatever is not set is not in the log: clicks without an `impression_id` column are attributed by user and
item.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.events.catalog import Catalog
from esmm_spark.contracts.events.history import Cross, History
from esmm_spark.contracts.section import Section
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.log_files import UTC_ZONE, MappedFiles, TimeZone

_IMMATURE = (
    "What becomes of an impression whose windows end after `--as-of`: `drop` (counted), `keep` with the "
    "labels known so far, or `flag`: kept, and `mature` is false in the labels table."
)


class EventLog(MappedFiles):
    """What the logs share."""

    day_folders: Annotated[
        str | None,
        Field(
            pattern="^[A-Za-z0-9_-]+$",
            description="`ds` where the files lie in folders `ds=2026-11-23` or `ds=20261123`; by default "
            "they don't.",
        ),
    ] = None
    late_days: Annotated[
        int,
        Field(
            ge=0,
            le=30,
            description="An event lies in its day's folder, the one before, or up to so many days later.",
        ),
    ] = 1
    time: Annotated[ColumnSource, Field(description="Source of the event time.")]
    ingest_time: Annotated[
        ColumnSource | None,
        Field(
            description="Source of the time when the line arrived: before, it isn't known. By default a line "
            "is known when it happens."
        ),
    ] = None
    features: Annotated[
        dict[str, ColumnSource],
        Field(
            description="Attribute, e.g. feature field's name -> its source: value, list, or value -> weight."
        ),
    ] = {}


class ImpressionLog(EventLog):
    """The impression log."""

    impression_id: Annotated[ColumnSource, Field(description="Source of the impression's id.")]
    user_id: Annotated[ColumnSource, Field(description="Source of the user's id.")]
    item_id: Annotated[ColumnSource, Field(description="Source of the item's id.")]
    context_key: Annotated[
        ColumnSource | None,
        Field(description="Source of what a group shares, e.g. a request id; by default that of the user."),
    ] = None


class ClickLog(EventLog):
    """The click log."""

    click_id: Annotated[
        ColumnSource | None, Field(description="Source of the click's id: lines with one id are one click.")
    ] = None
    impression_id: Annotated[
        ColumnSource | None,
        Field(description="Source of the clicked impression's id; without one, user and item tell."),
    ] = None
    user_id: Annotated[ColumnSource | None, Field(description="Source of the user's id.")] = None
    item_id: Annotated[ColumnSource | None, Field(description="Source of the item's id.")] = None


class ConversionLog(EventLog):
    """The conversion log."""

    conversion_id: Annotated[
        ColumnSource | None,
        Field(description="Source of the conversion's id: lines with one id are one conversion."),
    ] = None
    click_id: Annotated[
        ColumnSource | None, Field(description="Source of the click's id; without one, user and item tell.")
    ] = None
    user_id: Annotated[ColumnSource | None, Field(description="Source of the user's id.")] = None
    item_id: Annotated[ColumnSource | None, Field(description="Source of the item's id.")] = None


class TaskLog(EventLog):
    """The log of a task's events, each caused by an event of the task that it is given."""

    event_id: Annotated[
        ColumnSource | None, Field(description="Source of the event's id: lines with one id are one event.")
    ] = None
    parent_id: Annotated[
        ColumnSource | None,
        Field(
            description="Source of the id of the event that caused it, of a task without a parent of the "
            "impression; without one, user and item tell."
        ),
    ] = None
    user_id: Annotated[ColumnSource | None, Field(description="Source of the user's id.")] = None
    item_id: Annotated[ColumnSource | None, Field(description="Source of the item's id.")] = None
    window_s: Annotated[
        int,
        Field(gt=0, le=90 * 86400, description="An event's cause lies in [event - this, event], in seconds."),
    ] = 7 * 86400
    parent_event: Annotated[
        Literal["last", "first"],
        Field(description="Which event of that user and item in the window it belongs to."),
    ] = "last"


class ReversalLog(EventLog):
    """A log that takes events of a task back: refunds, cancellations."""

    takes_back: Annotated[str, Field(description="The task whose events it takes back.")]
    event_id: Annotated[
        ColumnSource, Field(description="Source of the id of the event that it takes back, e.g. an order's.")
    ]
    window_s: Annotated[
        int,
        Field(
            gt=0,
            le=90 * 86400,
            description="It counts in [event, event + this], in seconds: so much later a label is final.",
        ),
    ] = 14 * 86400


class Attribution(Section):
    """Which event belongs to which; both ends of a window are in it."""

    click_window_s: Annotated[
        int,
        Field(
            gt=0, le=90 * 86400, description="A click's impression lies in [click - this, click], in seconds."
        ),
    ] = 86400
    conversion_window_s: Annotated[
        int,
        Field(
            gt=0, le=90 * 86400, description="A conversion's click lies in [conversion - this, conversion]."
        ),
    ] = 7 * 86400
    conversion_click: Annotated[
        Literal["last", "first"],
        Field(description="Which click of that user and item in the window a conversion belongs to."),
    ] = "last"


class EventLogs(Section):
    """Impressions and what became of them, and how they are joined."""

    impressions: ImpressionLog
    clicks: Annotated[ClickLog | None, Field(description="The log of the task `click`.")] = None
    conversions: Annotated[
        ConversionLog | None, Field(description="The log of the task `conversion` that is given `click`.")
    ] = None
    tasks: Annotated[dict[str, TaskLog], Field(description="Task -> its log, of any other task.")] = {}
    reversals: Annotated[
        dict[str, ReversalLog],
        Field(description="Name -> a log that takes events back, as if they had not happened."),
    ] = {}
    time_zone: Annotated[
        TimeZone,
        Field(
            description="Of the days that are built, of `--as-of` without an offset, and by default of all "
            "logs and catalogs below: `Asia/Shanghai`."
        ),
    ] = UTC_ZONE
    attribution: Attribution = Attribution()
    immature: Annotated[Literal["drop", "keep", "flag"], Field(description=_IMMATURE)] = "drop"
    min_match_rate: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="If a smaller share of a day's clicks has an impression, or of its conversions a "
            "click, nothing is published: most likely their ids don't agree. Asked of a log with 100 events "
            "or more on the day; 0 turns it off.",
        ),
    ] = 0.001
    catalogs: Annotated[list[Catalog], Field(description="Tables to join in.")] = []
    history: Annotated[list[History], Field(description="Features from the past, point-in-time.")] = []
    crosses: Annotated[list[Cross], Field(description="Features that join a history and an impression.")] = []

    @model_validator(mode="before")
    @classmethod
    def _pass_zone_on(cls, content: Any) -> Any:
        if not isinstance(content, dict) or not isinstance(zone := content.get("time_zone"), str):
            return content

        def in_zone(log: Any) -> Any:
            return {"time_zone": zone, **log} if isinstance(log, dict) else log

        catalogs = content.get("catalogs")
        passed = {name: in_zone(content.get(name)) for name in ("impressions", "clicks", "conversions")}
        for part in ("tasks", "reversals"):
            if isinstance(logs := content.get(part), dict):
                passed[part] = {name: in_zone(log) for name, log in logs.items()}
        if isinstance(catalogs, list):
            passed["catalogs"] = [in_zone(catalog) for catalog in catalogs]
        return {**content, **{name: log for name, log in passed.items() if log is not None}}

    @model_validator(mode="after")
    def _check_attributes(self) -> Self:
        item_attributes = [name for table in self.catalogs if table.key == "item" for name in table.features]
        for history in self.history:
            log = self.task_logs.get(history.of)
            if log is None:
                raise ValueError(f"history {history.field} is of {history.of}, of which there is no log")
            if log.user_id is None:
                raise ValueError(f"history {history.field} needs {history.of}.user_id")
            if history.value not in log.features and not (history.value in item_attributes and log.item_id):
                raise ValueError(
                    f"history {history.field} counts {history.value}, which is neither in "
                    f"{history.of}.features nor in an item catalog"
                )
        known = {history.field for history in self.history}
        logged = {*self.impressions.features, *(name for table in self.catalogs for name in table.features)}
        for cross in self.crosses:
            if cross.history not in known:
                raise ValueError(f"cross {cross.field}: {cross.history} is no history's field")
            if cross.value not in logged:
                raise ValueError(f"cross {cross.field}: impressions have no attribute {cross.value}")
        names = [*self._sources()]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"{', '.join(repeated)} come from several places: give each attribute one source"
            )
        return self

    def _sources(self) -> list[str]:
        return [
            *self.impressions.features,
            *(name for table in self.catalogs for name in table.features),
            *(history.field for history in self.history),
            *(cross.field for cross in self.crosses),
        ]

    @property
    def task_logs(self) -> dict[str, ClickLog | ConversionLog | TaskLog]:
        """The logs of the tasks that are configured, by name: `clicks`, `conversions`, or the task's."""
        named = {"clicks": self.clicks, "conversions": self.conversions}
        return {**{name: log for name, log in named.items() if log is not None}, **self.tasks}

    @property
    def attributes(self) -> set[str]:
        """The names of all attributes that an impression has: what feature fields can be made of."""
        return set(self._sources())
