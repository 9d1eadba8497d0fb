"""Numbers and vectors of attributes to tokens that name a bucket of their field's table and bring a weight.

Of a number x, of the boundaries b of its field, of what was fitted for it:

    value 0, weight 1                          it is missing, or none that float32 can hold
    value 1, weight (t(x) - mean) / scale      t: the field's `transform`
    value 2 + i, weight 1                      its bucket: b[i - 1] <= x < b[i]

A vector of n numbers is n tokens: value i, weight x[i]. Weighted embeddings are summed up, so a number
scales one, and a vector is multiplied by a matrix [n, dim]: a dense layer, whose weights are embeddings.
"""

from collections.abc import Sequence

from pyspark.ml.feature import Bucketizer
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.fields.field_spec import (
    FIRST_NUMBER_BUCKET,
    MISSING_NUMBER,
    SCALED_NUMBER,
    FieldSpec,
)
from esmm_spark.contracts.fields.fitted import FittedNumber, FittedNumbers
from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR, VALUE_SEPARATOR, WEIGHT_SEPARATOR
from esmm_spark.reading.attributes import attribute
from esmm_spark.reading.values import quoted

# The largest float32: what a token's weight may be.
_LARGEST = 3.4028234663852886e38
_INFINITY = float("inf")


def number_column(field: FieldSpec) -> str:
    """Returns the column of a number, or of a vector."""
    return f"#{field.name}"


def with_numbers(frame: DataFrame, fields: Sequence[FieldSpec]) -> DataFrame:
    """Returns the frame with the column of each number, double and clipped, and vector, array<float>.

    They are null where the attribute is missing, or none: text, infinite, a vector of another size. A number
    of `missing: zero` is 0 there.

    Raises:
        InputError: a number's attribute has several values, or a vector's has one.
    """
    columns = {}
    for field in fields:
        if field.is_numbered:
            found = _parsed(frame, field)
            columns[number_column(field)] = _clipped(found, field) if field.is_numeric else found
    return frame.withColumns(columns) if columns else frame


def is_lost(frame: DataFrame, field: FieldSpec) -> Column:
    """Returns whether the attribute of a number or vector is there, but none."""
    return attribute(field.name).isNotNull() & _parsed(frame, field).isNull()


def _parsed(frame: DataFrame, field: FieldSpec) -> Column:
    kind = frame.schema[f"@{field.name}"].dataType.typeName()
    wanted = "string" if field.is_numeric else "array"
    if kind != wanted:
        raise InputError(
            f"field {field.name} is of kind {field.kind}, but its attribute is "
            f"{'one value' if kind == 'string' else f'{kind} of values'}: give it "
            f"{'one number' if field.is_numeric else 'a list of numbers'}, or another kind"
        )
    value = attribute(field.name)
    if field.is_numeric:
        number = value.try_cast("double")
        # Without a negative zero, which Bucketizer would place below zero.
        return F.when(_is_finite(number), number + 0.0)
    numbers = F.transform(value, lambda item: item.try_cast("float"))
    is_vector = (F.size(numbers) == field.size) & F.forall(numbers, _is_finite)
    return F.when(is_vector, numbers)


def _is_finite(number: Column) -> Column:
    # NaN is larger than any number to Spark.
    return F.coalesce(F.abs(number) <= _LARGEST, F.lit(False))


def _clipped(number: Column, field: FieldSpec) -> Column:
    found = F.coalesce(number, F.lit(0.0)) if field.missing == "zero" else number
    if field.clip is None:
        return found
    low, high = (F.lit(float(limit)) for limit in field.clip)
    return F.when(found < low, low).when(found > high, high).otherwise(found)


def with_places(frame: DataFrame, fields: Sequence[FieldSpec], fitted: FittedNumbers) -> DataFrame:
    """Returns the frame, which has the numbers, with the place of each among its field's boundaries.

    A place is the number of boundaries that aren't above the number: numpy's searchsorted, side `right`.
    """
    wanted: dict[str, tuple[str, Sequence[float]]] = {}
    for field in fields:
        if field.is_numeric:
            own = fitted.get(field.name, FittedNumber())
            wanted[_bucket_column(field)] = number_column(field), boundaries_of(field, own)
            wanted[_point_column(field)] = number_column(field), own.points
    wanted = {name: (number, splits) for name, (number, splits) in wanted.items() if splits}
    if not wanted:
        return frame
    # It takes no name with a dot in it.
    inputs, outputs = ([f"__{kind}_{place}" for place in range(len(wanted))] for kind in ("number", "place"))
    numbers = {name: F.col(quoted(number)) for name, (number, _) in zip(inputs, wanted.values(), strict=True)}
    bucketizer = Bucketizer(
        splitsArray=[[-_INFINITY, *splits, _INFINITY] for _, splits in wanted.values()],
        inputCols=inputs,
        outputCols=outputs,
        handleInvalid="keep",
    )
    placed = bucketizer.transform(frame.withColumns(numbers))
    return placed.withColumnsRenamed(dict(zip(outputs, wanted, strict=True))).drop(*inputs)


def boundaries_of(field: FieldSpec, fitted: FittedNumber) -> list[float]:
    """Returns where all buckets of a number but the first begin."""
    return [float(boundary) + 0.0 for boundary in field.buckets] or fitted.boundaries


def transformed(field: FieldSpec, fitted: FittedNumber) -> Column:
    """Returns t(x) of a number: of `quantile` its place must be there, of others the number alone."""
    number = F.col(quoted(number_column(field)))
    if field.transform == "log1p":
        return F.signum(number) * F.log1p(F.abs(number))
    if field.transform == "quantile":
        return _share(field, number, fitted)
    return number


def _share(field: FieldSpec, number: Column, fitted: FittedNumber) -> Column:
    """Returns numpy's `interp(number, points, shares)`."""
    if not fitted.points:
        return F.when(number.isNotNull(), 0.5)
    place = F.col(quoted(_point_column(field))).cast("int")
    points, shares = (F.array(*map(F.lit, values)) for values in (fitted.points, fitted.shares))
    low, high = points[place - 1], points[place]
    slope = (shares[place] - shares[place - 1]) / (high - low)
    return (
        F.when(place == 0, fitted.shares[0])
        .when(place == len(fitted.points), fitted.shares[-1])
        .otherwise(shares[place - 1] + (number - low) * slope)
    )


def numbered_tokens(field: FieldSpec, fitted: FittedNumbers) -> tuple[Column, Column]:
    """Returns the number of a number's or vector's tokens, and the tokens; 0 and null where it has none.

    Args:
        field: the field.
        fitted: what was fitted for all of them.
    """
    column = F.col(quoted(number_column(field)))
    if not field.is_numeric:
        tokens = F.transform(column, lambda item, place: _token(field, place.cast("string"), item))
        return F.when(column.isNull(), 0).otherwise(field.size), F.array_join(tokens, TOKEN_SEPARATOR)
    own, parts = fitted.get(field.name, FittedNumber()), []
    if field.is_scaled:
        standardised = (transformed(field, own) - own.mean) / own.scale
        parts.append(_token(field, F.lit(str(SCALED_NUMBER)), standardised.cast("float")))
    if field.has_buckets:
        place = F.col(quoted(_bucket_column(field))) if boundaries_of(field, own) else F.lit(0)
        bucket = place.cast("int") + FIRST_NUMBER_BUCKET
        parts.append(_token(field, bucket.cast("string"), F.lit(1.0)))
    missing = _token(field, F.lit(str(MISSING_NUMBER)), F.lit(1.0))
    tokens = F.when(column.isNull(), missing).otherwise(F.concat_ws(TOKEN_SEPARATOR, *parts))
    return F.when(column.isNull(), 1).otherwise(len(parts)), tokens


def _token(field: FieldSpec, value: Column, weight: Column) -> Column:
    return F.concat(
        F.lit(f"{field.name}{VALUE_SEPARATOR}"), value, F.lit(WEIGHT_SEPARATOR), weight.cast("string")
    )


def _bucket_column(field: FieldSpec) -> str:
    return f"#bucket {field.name}"


def _point_column(field: FieldSpec) -> str:
    return f"#point {field.name}"
