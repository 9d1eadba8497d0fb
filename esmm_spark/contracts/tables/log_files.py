"""The config of the files that a table lies in, and of the times in it: event logs, catalogs, flat tables."""

from datetime import date
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from esmm_spark.contracts.section import InputPath, Needs, Section

FormatName = Literal["parquet", "json", "csv"]
TimeUnit = Literal["s", "ms", "us", "iso"]
UTC_ZONE = "UTC"


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError("it is no time zone: name one like Asia/Shanghai or UTC") from error
    return name


# An IANA name.
TimeZone = Annotated[str, AfterValidator(_known_zone)]


class LogFiles(Section):
    """Files that one table lies in."""

    path: Annotated[
        InputPath, Field(description="File or folder; files whose names begin with `.` or `_` are no part.")
    ]
    file_format: Annotated[
        FormatName,
        Field(
            description="`json`: one object per line; `csv`: each file begins with the names of its columns."
        ),
    ] = "parquet"


class MappedFiles(LogFiles):
    """Files of a log, a catalog or a flat table: which lines they have, and how their times are read."""

    explode: Annotated[
        str | None,
        Field(
            min_length=1,
            description="A column, or path, that is a list: each of its items is a line. The column of its "
            "last name is then one item, and `<name>_position` its place, from 0 on.",
        ),
    ] = None
    where: Annotated[
        str | None,
        Field(
            min_length=1,
            description="A condition in Spark SQL; lines of which it isn't true are noted as `filtered`.",
        ),
    ] = None
    time_unit: Annotated[
        TimeUnit,
        Field(
            description="Unit of all times since 1970, or `iso`: timestamps or ISO 8601 text, UTC by default."
        ),
    ] = "ms"
    time_zone: Annotated[
        TimeZone,
        Field(
            description="Of text and timestamps without an offset, and of days: `Asia/Shanghai`. Logs and "
            "catalogs of events have by default `logs.events.time_zone`."
        ),
    ] = UTC_ZONE
    time_format: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Spark's pattern of times in text, `yyyyMMdd HH:mm:ss`; then `time_unit` says "
            "nothing of them.",
        ),
    ] = None
    null_time: Annotated[
        Literal["reject", "skip"],
        Field(
            description="Lines without a time (of a catalog: without `valid_from`): `reject` as "
            "`unparsable_time`, or `skip`, noted as `without_time`. Text that is no time is a reject."
        ),
        Needs("time", "valid_from"),
    ] = "reject"
    earliest_time: Annotated[
        date,
        Field(description="Earlier times are rejected as `time_out_of_range`: most likely another unit."),
    ] = date(2000, 1, 1)

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        # A config that was stored names the default, too.
        default = type(self).model_fields["time_unit"].default
        if self.time_format is not None and self.time_unit not in ("iso", default):
            raise ValueError(
                f"time_format is of text, and time_unit = {self.time_unit} of numbers: set one of them"
            )
        return self
