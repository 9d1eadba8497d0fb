"""The base class of a config's sections: unknown keys are errors, types are strict."""

import re
from datetime import date
from typing import Annotated, Any, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from esmm_spark.contracts.locations import check_glob, glob_characters, normal_location, require_no_secret

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Needs:
    """What a key, in whose annotation it stands, says nothing without.

    Args:
        keys: others of its section; one that is set is enough.
        value: what that one must be; None: anything but null.
    """

    def __init__(self, *keys: str, value: str | None = None) -> None:
        self.keys, self.value = keys, value

    def problem(self, section: "Section") -> str:
        """Returns what is wrong and what to do, empty where a section has what is needed."""
        own = [key for key in self.keys if key in type(section).model_fields]
        found = [getattr(section, key) for key in own]
        if any(each is not None and self.value in (None, each) for each in found):
            return ""
        if self.value is None:
            return f"has no effect without {' or '.join(own)}: set {' or '.join(own)}"
        return f"has no effect where {own[0]} is {found[0]}: set {own[0]}: {self.value}"

    def __str__(self) -> str:
        """Returns the need as the reference of keys names it."""
        return " or ".join(self.keys) if self.value is None else f"{self.keys[0]}: {self.value}"


class Section(BaseModel):
    """A section of a config. Types are strict: `true` is no number and `1e5` no path.

    A key that is not its default is refused where what it `Needs` isn't there: it would be ignored. A default
    is not: a config that was stored names all of them.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _read_text(cls, value: Any, info: ValidationInfo) -> Any:
        """Returns the number or day that `value` is the text of, where one is wanted.

        YAML 1.1 reads 1e-3 as text, and a config that was stored has its days in quotes.
        """
        assert info.field_name is not None
        annotation = cls.model_fields[info.field_name].annotation
        wanted = {annotation, *get_args(annotation)}
        if date in wanted:
            return _as_day(value)
        return _as_number(value, is_whole=float not in wanted) if wanted & {int, float} else value

    @model_validator(mode="after")
    def _check_needs(self) -> Self:
        for name, field in type(self).model_fields.items():
            for needs in (item for item in field.metadata if isinstance(item, Needs)):
                is_set = getattr(self, name) != field.get_default(call_default_factory=True)
                if is_set and (problem := needs.problem(self)):
                    raise ValueError(f"{name} {problem}, or leave {name} out")
        return self


def require_no_secrets(content: Any) -> None:
    """Raises ValueError if a text in `content`, at any depth, is a URI with credentials or a query."""
    # YAML's anchors can make a list hold itself.
    todo, seen = [("", content)], set()
    while todo:
        key, value = todo.pop()
        if isinstance(value, str):
            try:
                require_no_secret(value)
            except ValueError as error:
                raise ValueError(f"{key} = {error}" if key else str(error)) from None
        elif isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            todo += [(f"{key}.{name}" if key else str(name), item) for name, item in items]


def _as_day(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"{error}: write days like 2026-11-23") from error


def _as_number(value: Any, is_whole: bool) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value) if is_whole and value.lstrip("+-").isdigit() else float(value)
    if is_whole and isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number must fit into 64 bits, below 2^63 = 9,223,372,036,854,775,808")
    return value


def output_path(value: str) -> str:
    """Returns a path to write to in its normal form. Raises ValueError where none can be written."""
    location = normal_location(value)
    if found := glob_characters(location):
        raise ValueError(f"it holds {found}, which Spark would take for a glob: name a folder without it")
    return location


def _glob(value: str) -> str:
    location = normal_location(value)
    check_glob(location)
    return location


def _text(value: Any) -> Any:
    """Returns a day or a number, as YAML reads 2026-11-23 and 7, as the text that it was written as."""
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# The name of a run: `2026-11-23`.
RunId = Annotated[str, BeforeValidator(_text), StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
# A folder that a command writes; a file or folder that one reads; the same, or a glob of several.
OutputPath = Annotated[str, AfterValidator(output_path)]
InputPath = Annotated[str, AfterValidator(normal_location)]
InputGlob = Annotated[str, AfterValidator(_glob)]
