"""The config of a table of attributes that is joined to event logs: `logs.events.catalogs`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.log_files import MappedFiles


class Catalog(MappedFiles):
    """A table whose attributes are joined to impressions, and to events for their histories."""

    key: Annotated[Literal["item", "user"], Field(description="What the table describes.")]
    key_column: Annotated[ColumnSource, Field(description="Source of the item's or user's id.")]
    valid_from: Annotated[
        ColumnSource | None,
        Field(description="Source of the time from which a row holds; without one, rows hold at all times."),
    ] = None
    valid_to: Annotated[
        ColumnSource | None,
        Field(description="Source of the time at which a row ceases to hold; by default the key's next row."),
    ] = None
    features: Annotated[
        dict[str, ColumnSource], Field(min_length=1, description="Attribute -> its source, as in the logs.")
    ]

    @model_validator(mode="after")
    def _check_validity(self) -> Self:
        if self.valid_to is not None and self.valid_from is None:
            raise ValueError("valid_to is set without valid_from: set both, or neither")
        return self
