"""The config of a task's label in a table: `logs.table.labels`."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.section import Section
from esmm_spark.contracts.tables.column_source import ColumnSource

_KEYS = ("flag", "time", "window_s")


class TableLabel(Section):
    """The label of a task: a flag, written as its source alone, or the time of the event."""

    flag: Annotated[
        ColumnSource | None, Field(description="0 or 1, false or true; null or empty where it isn't known.")
    ] = None
    time: Annotated[
        ColumnSource | None,
        Field(
            description="The event's time, null or empty where there was none: 1 if it is in the window and "
            "not after `logs.table.as_of`, else 0."
        ),
    ] = None
    window_s: Annotated[
        int | None,
        Field(
            gt=0,
            le=365 * 86400,
            description="The event lies in [cause, cause + this], in seconds; the cause is the parent's "
            "event where that has a time, else the impression. By default there is no window.",
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _name_flag(cls, content: Any) -> Any:
        if isinstance(content, dict) and any(key in content for key in _KEYS):
            return content
        return {"flag": content}

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.flag is None) == (self.time is None):
            raise ValueError("a label has either flag or time")
        if self.flag is not None and self.window_s is not None:
            raise ValueError("window_s is of an event's time: a flag has none")
        return self
