"""The config of a table of attributes that is joined to event logs: `logs.events.catalogs`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.section import Needs
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.log_files import MappedFiles


class Catalog(MappedFiles):
    """A table whose attributes are joined to impressions, and to events for their histories."""

    key: Annotated[Literal["item", "user"], Field(description="What the table describes.")]
    key_column: Annotated[ColumnSource, Field(description="Source of the item's or user's id.")]
    valid_from: Annotated[
        ColumnSource | None,
        Field(description="Source of the time from which an entry holds; without one, all always do."),
    ] = None
    valid_to: Annotated[
        ColumnSource | None,
        Field(description="Source of the time at which an entry ceases to hold; by default its key's next."),
        Needs("valid_from"),
    ] = None
    day_folders: Annotated[
        str | None,
        Field(
            pattern="^[A-Za-z0-9_-]+$",
            description="`dt` where each folder `dt=2026-11-23` or `dt=20261123` is a snapshot of the whole "
            "table at the end of that day; instead of `valid_from`.",
        ),
    ] = None
    lag_days: Annotated[
        int,
        Field(ge=0, le=30, description="A snapshot holds so many days after its own, until the next does."),
        Needs("day_folders"),
    ] = 1
    features: Annotated[
        dict[str, ColumnSource], Field(min_length=1, description="Attribute -> its source, as in the logs.")
    ]
    defaults: Annotated[
        dict[str, str | int | float],
        Field(
            description="Attribute -> its value, text or a number, where no entry of the key holds: it "
            "becomes what the same value in an entry would."
        ),
    ] = {}

    @model_validator(mode="after")
    def _check_validity(self) -> Self:
        if self.valid_from is not None and self.day_folders is not None:
            raise ValueError("valid_from and day_folders both say when an entry holds: set one of them")
        strange = [name for name in self.defaults if name not in self.features]
        if strange:
            raise ValueError(f"defaults {', '.join(strange)} are no attributes: name them in features")
        return self

    @property
    def is_versioned(self) -> bool:
        """Whether entries hold for a while; else always."""
        return self.valid_from is not None or self.day_folders is not None
