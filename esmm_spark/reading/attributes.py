r"""Attributes of impressions as the text of canonical lines, which the grouping kernel reads.

An attribute is a column `@<name>`, as `values.attribute_value` makes it. So event logs and tables go through
the same hashing, grouping and checks as Ali-CCP's: a value with a control character of the format in it is
rejected there as `bad_token`, several values of a field that isn't `multi` as `several_values`.

Worked example: impression `i` of context `c` with 206 = "7" and 508 = {7: 0.5}, clicked, is the line
`i,1,0,c,2,206\x027\x031.0\x01508\x027\x030.5`.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.impressions import CarriedKind, ImpressionColumns
from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR, VALUE_SEPARATOR, WEIGHT_SEPARATOR

# What can't stand in a carried text; the grouping kernel's tables read it back.
_ESCAPES = (("%", "%25"), (",", "%2C"), ("\n", "%0A"), ("\r", "%0D"))


def attribute(name: str) -> Column:
    """Returns the column `@<name>` of an attribute."""
    return F.col(f"`@{name}`")


def impression_head(impressions: DataFrame, brought: ImpressionColumns) -> Column:
    """Returns a line up to its tokens: `impression_id`, a label of each task, `context_key`, what is carried.

    A label that isn't known is an empty text, not null.

    Args:
        impressions: with a label of each task, and the attributes.
        brought: the tasks, and which attributes are carried.

    Raises:
        InputError: a carried attribute is a list or a map.
    """
    carried = carried_texts(impressions, brought).values()
    return F.concat_ws(",", "impression_id", *brought.tasks.names, "context_key", *carried)


def carried_texts(impressions: DataFrame, brought: ImpressionColumns) -> dict[str, Column]:
    """Returns `carried <name>` -> the text of each carried attribute, empty where it is missing.

    Raises:
        InputError: a carried attribute is a list or a map.
    """
    return {f"carried {name}": _carried(impressions, name, kind) for name, kind in brought.carry.items()}


def _carried(frame: DataFrame, name: str, kind: CarriedKind) -> Column:
    """Returns an attribute as the text that is carried: empty where missing, or no number of its type."""
    value, stored = attribute(name), frame.schema[f"@{name}"].dataType.typeName()
    if stored != "string":
        raise InputError(
            f"samples.carry names {name}, of which an impression may have several values ({stored}): carry "
            "an attribute with one"
        )
    if kind == "string":
        text = reduce(lambda escaped, pair: F.replace(escaped, *map(F.lit, pair)), _ESCAPES, value)
    else:
        text = _number(value, kind)
    return F.coalesce(text, F.lit(""))


def _number(value: Column, kind: CarriedKind) -> Column:
    """Returns the text of a number, null where `value` is none of its type."""
    if kind == "int":
        return value.try_cast("bigint").cast("string")
    number = value.try_cast("double")
    return F.when(~F.isnan(number), number.cast("string"))


def is_lost_carried(name: str, kind: CarriedKind) -> Column:
    """Returns whether an attribute that is carried is there, but no number of its kind: it carries null."""
    return attribute(name).isNotNull() & _number(attribute(name), kind).isNull()


def field_tokens(frame: DataFrame, field: FieldSpec) -> tuple[Column, Column]:
    """Returns the number of a categorical field's tokens and the tokens; 0 and null where it is missing.

    Raises:
        InputError: the attribute of a field that isn't pooled is a map.
    """
    value = attribute(field.name)
    kind = frame.schema[f"@{field.name}"].dataType.typeName()
    prefix, unweighted = F.lit(f"{field.name}{VALUE_SEPARATOR}"), F.lit(f"{WEIGHT_SEPARATOR}1.0")
    if kind == "map" and not field.is_pooled:
        raise InputError(
            f"field {field.name} has pooling: none, but its attribute is an object value -> weight, which "
            "has no order: log a list, the newest value first, or pool it"
        )
    if kind == "string":
        return F.when(value.isNull(), 0).otherwise(1), F.concat(prefix, value, unweighted)
    number = F.coalesce(F.size(value), F.lit(0))
    if kind == "array":
        tokens = F.transform(value, lambda item: F.concat(prefix, item, unweighted))
    else:
        # By value: a map's own order says nothing. A weight is float32 in the examples.
        entries = F.array_sort(F.map_entries(value))
        tokens = F.transform(
            entries,
            lambda entry: F.concat(
                prefix, entry["key"], F.lit(WEIGHT_SEPARATOR), entry["value"].cast("float").cast("string")
            ),
        )
    return F.greatest(number, F.lit(0)), F.array_join(tokens, TOKEN_SEPARATOR)
