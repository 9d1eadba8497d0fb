"""The config of which lines of a table train, validate and test: `logs.table.splits`."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.schemas.split_names import TEST, TRAIN, VALIDATION, SplitName
from esmm_spark.contracts.section import InputPath, Needs, Section
from esmm_spark.contracts.tables.column_source import ColumnSource

VALUES_BY_DEFAULT: dict[SplitName, list[str]] = {split: [split] for split in (TRAIN, VALIDATION, TEST)}


class TableSplits(Section):
    """Which lines train, validate and test, by one of four rules; by default all lines train.

    Without lines of their own for it, groups of train are held out (`samples.validation_fraction`).
    """

    test_fraction: Annotated[
        float, Field(ge=0, lt=1, description="Share of the context keys whose lines are the test split.")
    ] = 0
    seed: Annotated[int, Field(description="Seed of that share.")] = 42
    validation_from: Annotated[
        date | None,
        Field(description="Lines from this day on, of `time` or of their folder, validate ..."),
    ] = None
    test_from: Annotated[date | None, Field(description="... and those from this day on test.")] = None
    column: Annotated[ColumnSource | None, Field(description="A value that names the line's split.")] = None
    values: Annotated[
        dict[SplitName, list[str]],
        Field(description="Split -> the values of `column` that name it."),
        Needs("column"),
    ] = VALUES_BY_DEFAULT
    paths: Annotated[
        dict[Literal["validation", "test"], InputPath],
        Field(description="Split -> its own files, of the same columns; those of `logs.table.path` train."),
    ] = {}

    @model_validator(mode="after")
    def _check_one_rule(self) -> Self:
        rules = {
            "test_fraction": self.test_fraction > 0,
            "test_from": self.is_by_day,
            "column": self.column is not None,
            "paths": bool(self.paths),
        }
        named = [rule for rule, is_set in rules.items() if is_set]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} are two rules: set one of them")
        first, second = self.validation_from, self.test_from
        if first is not None and second is not None and first >= second:
            raise ValueError(f"validation_from = {first} must be before test_from = {second}")
        values = [value for of_split in self.values.values() for value in of_split]
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"values {', '.join(repeated)} name two splits")
        return self

    @property
    def is_by_day(self) -> bool:
        """Whether a line's day tells its split."""
        return self.validation_from is not None or self.test_from is not None
