"""A feature field: what its values are, and how they become buckets and weights of a table."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.section import Section

RARE_BUCKET = 0

Level = Literal["context", "impression"]
FieldKind = Literal["categorical", "numeric", "vector"]

# The tokens of a number, and with it the rows of its field's table: it is missing, the vector that is scaled
# by it, its first bucket.
MISSING_NUMBER, SCALED_NUMBER, FIRST_NUMBER_BUCKET = 0, 1, 2
# In their table row 0 is 'rare', as in every other, and 1 + n is of token n.
_FIRST_NUMBERED_BUCKET = RARE_BUCKET + 1

# The keys that say what becomes of numbers.
KIND_KEYS = ("kind", "buckets", "quantile", "scaled", "transform", "clip", "missing", "size")


class FieldSpec(Section):
    """One feature field, as it is named in the log."""

    name: Annotated[str, Field(min_length=1, description="The field's name in the log.")]
    level: Annotated[
        Level,
        Field(description="`context`: shared by a group's impressions; `impression`: each has its own."),
    ]
    table: Annotated[
        str | None,
        Field(description="The table whose buckets it uses; without one, the table of the field's own name."),
    ] = None
    weighted: Annotated[bool, Field(description="Whether token weights count; else every weight is 1.")] = (
        False
    )
    multi: Annotated[bool, Field(description="Whether a line may hold several values of the field.")] = False
    pooling: Annotated[
        Literal["sum", "mean", "none"],
        Field(
            description="How several values become one vector: `sum` of weight x row, or `mean`, that sum / "
            "number of values; `none`: they don't, the network gets each, e.g. `din`."
        ),
    ] = "sum"
    max_length: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="With `pooling: none`: so many values are kept, the first of the line, which are "
            "the newest; the others are counted.",
        ),
    ] = None
    min_count: Annotated[
        int,
        Field(
            ge=1,
            description="A value on fewer lines of the training split than this goes to bucket 0 ('rare').",
        ),
    ] = 1
    kind: Annotated[
        FieldKind | None,
        Field(
            description="`categorical`: each value has a bucket; `numeric`: one number, as its bucket, as a "
            "vector that it scales, or both; `vector`: a list of `size` numbers, projected by a dense layer. "
            "By default categorical, with a warning where values have fractions."
        ),
    ] = None
    buckets: Annotated[
        list[float],
        Field(description="Of `numeric`: where its buckets begin: `[0, 1, 10]` makes four."),
    ] = []
    quantile: Annotated[
        int | None,
        Field(
            ge=2,
            le=1000,
            description="Of `numeric`: so many buckets, each with as many of the training split's values.",
        ),
    ] = None
    scaled: Annotated[
        bool | None,
        Field(
            description="Of `numeric`: whether a vector is scaled by the number, transformed and "
            "standardised; by default if it has no buckets."
        ),
    ] = None
    transform: Annotated[
        Literal["none", "log1p", "quantile"],
        Field(
            description="Of `scaled`: the number itself, sign(x) log(1 + abs(x)), or the share of the "
            "training split's values below it."
        ),
    ] = "none"
    clip: Annotated[
        list[float] | None,
        Field(
            min_length=2,
            max_length=2,
            description="Of `numeric`: the smallest and the largest number; others become these.",
        ),
    ] = None
    missing: Annotated[
        Literal["own", "zero"],
        Field(
            description="Of `numeric`: a missing number has a vector of its `own`, or is the number `zero`."
        ),
    ] = "own"
    size: Annotated[
        int | None, Field(ge=1, le=65536, description="Of `vector`: how many numbers it has.")
    ] = None

    @property
    def is_numeric(self) -> bool:
        """Whether it is one number."""
        return self.kind == "numeric"

    @property
    def is_numbered(self) -> bool:
        """Whether its tokens are numbers of rows, with weights, and not values that are hashed."""
        return self.kind in ("numeric", "vector")

    @property
    def is_scaled(self) -> bool:
        """Of a number: whether a vector is scaled by it."""
        return not self.has_buckets if self.scaled is None else self.scaled

    @property
    def has_buckets(self) -> bool:
        """Of a number: whether it has buckets."""
        return bool(self.buckets) or self.quantile is not None

    @property
    def is_fitted(self) -> bool:
        """Whether what becomes of its values follows from the training split's."""
        return self.is_numeric and (self.quantile is not None or self.is_scaled)

    @property
    def num_numbered_buckets(self) -> int:
        """Of `is_numbered`: the buckets of its table."""
        num_tokens = self.size or FIRST_NUMBER_BUCKET
        if self.has_buckets:
            num_tokens += self.quantile or len(self.buckets) + 1
        return _FIRST_NUMBERED_BUCKET + num_tokens

    @property
    def table_name(self) -> str:
        """The name of the field's table, which is also what its values are hashed with."""
        return self.table or self.name

    @property
    def is_pooled(self) -> bool:
        """Whether its values become one vector."""
        return self.pooling != "none"

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if problem := _problem_of_kind(self):
            raise ValueError(f"field {self.name} {problem}")
        return self

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.is_pooled:
            if self.max_length is not None:
                raise ValueError(
                    f"field {self.name} is pooled by {self.pooling}, but has max_length = {self.max_length}, "
                    "which is for pooling: none"
                )
            return self
        problem = "has no max_length: set how many of the newest values are kept"
        if self.level != "context":
            problem = f"level: {self.level}: only a context has values that are not pooled"
        elif not self.multi:
            problem = "holds one value: set multi: true"
        elif self.max_length is not None:
            return self
        raise ValueError(f"field {self.name} has pooling: none, but {problem}")


def _problem_of_kind(field: FieldSpec) -> str | None:
    """Returns what is wrong with the keys of a field's kind."""
    kind = field.kind or "categorical"
    of_kind = {"categorical": (), "vector": ("kind", "size"), "numeric": (*KIND_KEYS[:-1],)}[kind]
    defaults = FieldSpec.model_fields
    for key in KIND_KEYS[1:]:
        if key not in of_kind and getattr(field, key) != defaults[key].default:
            return f"has {key}, which is not of kind {kind}: set kind: {_KIND_OF.get(key, 'numeric')}"
    if not field.is_numbered:
        return None
    hashed = ("table", "weighted", "multi", "pooling", "max_length", "min_count")
    for key in hashed:
        if getattr(field, key) != defaults[key].default:
            return f"is of kind {kind}, which has no {key}: leave it out"
    if field.kind == "vector":
        return None if field.size else "is of kind vector, but has no size: set how many numbers it has"
    return _problem_of_number(field)


_KIND_OF = {"size": "vector"}


def _problem_of_number(field: FieldSpec) -> str | None:
    if field.buckets and field.quantile is not None:
        return f"has buckets and quantile = {field.quantile}: set one of them"
    if any(second <= first for first, second in pairwise(field.buckets)):
        return f"has buckets {field.buckets}, which must ascend"
    if not field.is_scaled and not field.has_buckets:
        return "is numeric, but neither scaled nor in buckets: set buckets, quantile or scaled: true"
    if field.transform != "none" and not field.is_scaled:
        return f"has transform: {field.transform}, which is of a scaled vector: set scaled: true"
    if field.clip is not None and field.clip[0] >= field.clip[1]:
        return f"has clip {field.clip}, whose first must be below its second"
    return None


def require_kinds(fields: Iterable[FieldSpec], log_format: str, is_frozen: bool) -> None:
    """Raises ValueError where logs of this format don't bring what becomes of a field.

    Args:
        fields: the fields.
        log_format: `logs.format`.
        is_frozen: whether what is fitted and counted comes from another dataset.
    """
    if log_format not in ("events", "table"):
        found = [field.name for field in fields if field.is_numbered]
        problem = "are of kind numeric or vector, but", "has only weights of tokens: set weighted: true"
    elif log_format == "events" and not is_frozen:
        found = [field.name for field in fields if field.is_fitted or field.min_count > 1]
        problem = "are fitted or have min_count > 1, and", "has no training split: set samples.frozen_from"
    else:
        return
    if found:
        raise ValueError(
            f"features.fields {', '.join(found)} {problem[0]} logs.format {log_format} {problem[1]}"
        )
