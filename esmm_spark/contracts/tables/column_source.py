"""Where a value of a log comes from: a column, a path into one, several put together, an expression."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.section import Needs, Section

_PART = r"(?:`(?:[^`]|``)+`|[^\W\d]\w*)"
# A text in quotes, which names nothing, or a path.
_NAME = re.compile(rf"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?<!\w)({_PART}(?:\.{_PART})*)""", re.DOTALL)


def names_in_sql(text: str) -> set[str]:
    """Returns the words of an expression that may be columns or paths: SQL's own, too, but for functions.

    Worked example: of "coalesce(a, `user`.`id`, 'none') is null" they are `a`, `user.id`, `is` and `null`.
    """
    found = (
        match[1]
        for match in _NAME.finditer(text)
        if match[1] and not text[match.end() :].lstrip().startswith("(")
    )
    return {name.replace("``", "\0").replace("`", "").replace("\0", "`") for name in found}


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
    separator: Annotated[
        str, Field(description="What stands between the parts of `concat`."), Needs("concat")
    ] = "-"
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

    @property
    def names(self) -> set[str]:
        """The columns and paths in it, and other words of its expressions."""
        if self.column is not None:
            return {self.column}
        if self.expr is not None:
            return names_in_sql(self.expr)
        return {name for part in self.concat or () for name in part.names}

    def __str__(self) -> str:
        """Returns the source in one line, as a config may have it."""
        if self.column is not None:
            return self.column
        if self.concat is not None:
            return f"{{concat: [{', '.join(map(str, self.concat))}]}}"
        if self.expr is not None:
            return f'{{expr: "{" ".join(self.expr.split())}"}}'
        return f"{{constant: {self.constant}}}"
