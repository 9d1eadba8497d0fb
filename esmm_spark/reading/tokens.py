"""The tokens of all fields of a frame, whatever their kind."""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.fields.fitted import FittedNumbers
from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR
from esmm_spark.reading.attributes import field_tokens
from esmm_spark.reading.numbers import numbered_tokens


def all_tokens(frame: DataFrame, fields: Sequence[FieldSpec], fitted: FittedNumbers) -> tuple[Column, Column]:
    """Returns the number of the fields' tokens and the tokens, both as text.

    Args:
        frame: attributes, and the numbers with their places (`with_places`).
        fields: whose tokens.
        fitted: what places the numbers.

    Raises:
        InputError: the attribute of a field that isn't pooled is a map.
    """
    pairs = [
        numbered_tokens(field, fitted) if field.is_numbered else field_tokens(frame, field)
        for field in fields
    ]
    number = reduce(Column.__add__, (count for count, _ in pairs), F.lit(0))
    return number.cast("string"), F.concat_ws(TOKEN_SEPARATOR, *(text for _, text in pairs))
