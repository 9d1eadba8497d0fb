"""Ids and attribute values as canonical text, whatever type and file format they come from.

A whole number is its digits: 11, 11.0 and decimal 11.00 are `11`, also where text says `11.0`, as pandas
writes integers with a gap. Other text stays as it is: `0011` and ` 11` are not `11`, `1e3` is not `1000`.
"""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, DecimalType, DoubleType, FloatType, MapType, StringType

# Beyond these not every integer has a double or float of its own: two ids may have become one.
_EXACT = {"double": 2**53, "float": 2**24}
BAD_ID_PATTERN = "[,\\x00-\\x1f]"
WHOLE_NUMBER = r"^(0|-?[1-9][0-9]*)\.0+$"


def quoted(column: str) -> str:
    """Returns a column's name as Spark's expressions take it, whatever is in it."""
    return "`" + column.replace("`", "``") + "`"


def text_value(value: Column, kind: DataType) -> Column:
    """Returns a scalar as text; null where it is null, empty or not a number.

    Args:
        value: a column, or an item of one.
        kind: its type.
    """
    text = _text(value, kind)
    return F.when(text != "", text)


def attribute_value(frame: DataFrame, column: str) -> Column:
    """Returns an attribute as string, array<string> or map<string, double>; null where nothing is in it.

    Items of a list and entries of a map that are null, empty or not a number are left out.
    """
    value, kind = F.col(quoted(column)), frame.schema[column].dataType
    if isinstance(kind, ArrayType):
        texts = F.transform(value, lambda item: _text(item, kind.elementType))
        values = F.filter(texts, lambda text: text != "")
        return F.when(F.size(values) > 0, values)
    if isinstance(kind, MapType):
        weights = value.cast(MapType(kind.keyType, DoubleType()))
        # Of two keys that are one value the last one counts (spark.sql.mapKeyDedupPolicy).
        texts = F.transform_keys(weights, lambda key, _: _text(key, kind.keyType))
        known = F.map_filter(texts, lambda key, weight: (key != "") & weight.isNotNull() & ~F.isnan(weight))
        return F.when(F.size(known) > 0, known)
    return text_value(value, kind)


def is_inexact(frame: DataFrame, column: str) -> Column | None:
    """Returns whether an id is a double or float too large to say which integer it was; None: it can't be."""
    limit = _EXACT.get(frame.schema[column].dataType.typeName())
    return None if limit is None else F.abs(F.col(quoted(column))) >= limit


def is_bad_id(ids: Sequence[str]) -> Column:
    """Returns whether one of the columns holds a comma or a control character: canonical lines can't."""
    return F.concat_ws("", *ids).rlike(BAD_ID_PATTERN)


def is_any(conditions: Sequence[Column]) -> Column:
    """Returns whether one is true; null is not."""
    return reduce(Column.__or__, (F.coalesce(each, F.lit(False)) for each in conditions), F.lit(False))


def _text(value: Column, kind: DataType) -> Column:
    """Returns a scalar as text, perhaps empty."""
    text = value.cast("string")
    if isinstance(kind, FloatType | DoubleType):
        whole = value.try_cast("bigint")
        return (
            F.when(F.isnan(value), None)
            .when(whole.cast("double") == value, whole.cast("string"))
            .otherwise(text)
        )
    if isinstance(kind, DecimalType):
        if kind.scale == 0:
            return text
        whole = F.floor(value)
        return F.when(whole == value, whole.cast("string")).otherwise(F.rtrim(text, F.lit("0")))
    if isinstance(kind, StringType):
        # A pattern is dear: most values can't match it.
        is_candidate = text.endswith("0") & text.contains(".")
        return F.when(is_candidate, F.regexp_replace(text, WHOLE_NUMBER, "$1")).otherwise(text)
    return text
