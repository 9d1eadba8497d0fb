"""Boundaries, means and scales of numeric fields, fitted on the numbers of a training split."""

import math
from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.fields.fitted import FittedNumber
from esmm_spark.reading.numbers import number_column, transformed
from esmm_spark.reading.values import quoted

# Greenwald-Khanna sketches of Spark: a rank is off by at most 1 / this of all values, and memory is
# of this order, whatever the number of values.
_ACCURACY = 10_000
_NUM_POINTS = 100
# Sums of floats depend on the order of their parts in the last digits.
_DIGITS = 12


def fit_numbers(numbers: DataFrame, fields: Sequence[FieldSpec]) -> dict[str, FittedNumber]:
    """Returns what is fitted for each of the fields, in one pass.

    A boundary of `quantile: k` is the smallest number that at least i / k of all numbers aren't above; equal
    ones are one. The mean and the scale, which is the standard deviation, are those of the transformed
    numbers; of `transform: quantile` those of what is even over [0, 1].

    Args:
        numbers: the training split's (`with_numbers`).
        fields: `FeatureSpec.fitted_fields`.

    Raises:
        InputError: the squares of a field's numbers are too large for a mean of them.
    """
    columns = [
        column.alias(f"{place} {name}")
        for place, field in enumerate(fields)
        for name, column in _statistics(field).items()
    ]
    fitted = numbers.agg(*columns).collect()[0].asDict()
    return {field.name: _fitted(field, fitted, place) for place, field in enumerate(fields)}


def _statistics(field: FieldSpec) -> dict[str, Column]:
    number = F.col(quoted(number_column(field)))
    found: dict[str, Column] = {}
    if field.quantile is not None:
        shares = [place / field.quantile for place in range(1, field.quantile)]
        found["boundaries"] = F.percentile_approx(number, shares, _ACCURACY)
    if field.is_scaled and field.transform == "quantile":
        shares = [place / _NUM_POINTS for place in range(_NUM_POINTS + 1)]
        found["points"] = F.percentile_approx(number, shares, _ACCURACY)
    elif field.is_scaled:
        found["mean"] = F.avg(transformed(field, FittedNumber()))
        found["scale"] = F.stddev_pop(transformed(field, FittedNumber()))
    return found


def _fitted(field: FieldSpec, statistics: dict[str, Any], place: int) -> FittedNumber:
    boundaries = statistics.get(f"{place} boundaries") or []
    found = FittedNumber(boundaries=sorted({*boundaries}))
    if not field.is_scaled:
        return found
    if field.transform == "quantile":
        points, shares = _curve(statistics[f"{place} points"] or [])
        moments = {"mean": 0.5, "scale": _rounded(math.sqrt(1 / 12))}
        return found.model_copy(update={"points": points, "shares": shares, **moments})
    mean, scale = (statistics[f"{place} {name}"] for name in ("mean", "scale"))
    if mean is not None and not (math.isfinite(mean) and math.isfinite(scale)):
        raise InputError(
            f"field {field.name}: its numbers are too large to be standardised: set clip, or "
            "transform: log1p; nothing was replaced"
        )
    return found.model_copy(update={"mean": _rounded(mean or 0.0), "scale": _rounded(scale or 1.0)})


def _curve(quantiles: Sequence[float]) -> tuple[list[float], list[float]]:
    """Returns distinct points, and for each the middle of the shares whose quantile it is.

    Worked example: the quantiles 0, 0, 0, 5, 9 of the shares 0, 0.25 ... 1 give 0, 5, 9 and 0.25, 0.75, 1.
    """
    shares: dict[float, list[float]] = {}
    for place, value in enumerate(quantiles):
        shares.setdefault(value, []).append(place / (len(quantiles) - 1))
    points = sorted(shares)
    return points, [_rounded((min(shares[point]) + max(shares[point])) / 2) for point in points]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
