"""Where a value of a log comes from: a column, a path into one, several put together, an expression."""

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.section import Section


class ColumnSource(Section):
    """A column of a log, written as its name alone, or what is made of columns: one of these keys.

    Worked example: of the line {"user": {"id": 7}, "request": "r1", "position": 2} the source `user.id` is
    `7`, `{concat: [request, position]}` is `r1-2`, and `{expr: "position + 1"}` is `3`.
    """

    column: Annotated[
        str | None,
        Field(min_length=1, description="A column, or a path into structs and maps: `user.id`."),
    ] = None
    concat: Annotated[
        list["ColumnSource"] | None,
        Field(min_length=1, description="Sources, as one text; nothing where one of them is null."),
    ] = None
    separator: Annotated[str, Field(description="What stands between the parts of `concat`.")] = "-"
    constant: Annotated[
        str | int | float | bool | None, Field(description="The same value on every line.")
    ] = None
    expr: Annotated[
        str | None, Field(min_length=1, description='Spark SQL over the columns: `"coalesce(a, b)"`.')
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _name_column(cls, content: Any) -> Any:
        return {"column": content} if isinstance(content, str) else content

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        keys = ("column", "concat", "constant", "expr")
        named = [key for key in keys if getattr(self, key) is not None]
        if len(named) != 1:
            found = " and ".join(named) or "none"
            raise ValueError(f"a source has one of {', '.join(keys)}, and this one has {found}")
        return self

    @property
    def texts(self) -> Iterator[str]:
        """The columns, paths and expressions in it."""
        yield from (text for text in (self.column, self.expr) if text is not None)
        for part in self.concat or ():
            yield from part.texts

    def __str__(self) -> str:
        """Returns the source as a config may have it."""
        if self.column is not None:
            return self.column
        if self.concat is not None:
            return f"{{concat: [{', '.join(map(str, self.concat))}]}}"
        return f"{{constant: {self.constant}}}" if self.expr is None else f'{{expr: "{self.expr}"}}'
