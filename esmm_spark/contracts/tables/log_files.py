"""The config of the files that a table lies in, and of the times in it: event logs, catalogs, flat tables."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from esmm_spark.contracts.section import InputPath, Section

TimeUnit = Literal["s", "ms", "us", "iso"]


class LogFiles(Section):
    """Files that one table lies in."""

    path: Annotated[
        InputPath, Field(description="File or folder; files whose names begin with `.` or `_` are no part.")
    ]
    file_format: Annotated[
        Literal["parquet", "json", "csv"],
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
    earliest_time: Annotated[
        date,
        Field(description="Earlier times are rejected as `time_out_of_range`: most likely another unit."),
    ] = date(2000, 1, 1)
