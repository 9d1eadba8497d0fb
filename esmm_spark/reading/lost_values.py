"""Values that aren't what the config takes them for: counted by the pass that reads them, and told."""

from collections.abc import Callable, Iterable, Mapping

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from esmm_spark.contracts.fields.amounts import FEW_NUMBERS, is_amount_name
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.impressions import CarriedKind
from esmm_spark.reading.attributes import attribute, is_lost_carried
from esmm_spark.reading.numbers import is_lost

_CARRIED, _NO_NUMBER, _FRACTION, _AMOUNT = "carried ", "no number ", "fraction ", "amount "
_REMEDY = "set kind: numeric, or kind: vector of a list; kind: categorical says that it is meant"
_WHOLE_NUMBER = "^-?[0-9]+$"


def lost_values(
    frame: DataFrame,
    fields: Iterable[FieldSpec],
    carry: Mapping[str, CarriedKind],
    is_counted: Column,
    counts_fractions: bool = True,
) -> list[Column]:
    """Returns how many lines have a value of another kind than the config says: what `observing` takes.

    Of a categorical field that is called like an amount, also about how many distinct whole numbers it has.

    Args:
        frame: attributes of lines.
        fields: the feature fields whose attributes are in it.
        carry: the carried columns in it.
        is_counted: whether a line counts.
        counts_fractions: whether numbers with fractions of categorical fields are counted here.
    """
    found = {
        f"{_CARRIED}{name}": is_lost_carried(name, kind) for name, kind in carry.items() if kind != "string"
    }
    amounts = []
    for field in fields:
        if field.is_numbered:
            found[f"{_NO_NUMBER}{field.name}"] = is_lost(frame, field)
        elif field.kind is None:
            if counts_fractions:
                found[fractions_of(field)] = _has_fraction(frame, field)
            if is_amount_name(field.name) and _type_of(frame, field) == "string":
                value = attribute(field.name)
                whole = F.when(is_counted & value.rlike(_WHOLE_NUMBER), value)
                amounts.append(F.approx_count_distinct(whole).alias(f"{_AMOUNT}{field.name}"))
    return [*(F.count_if(is_counted & condition).alias(name) for name, condition in found.items()), *amounts]


def fractions_of(field: FieldSpec) -> str:
    """Returns what the count of lines is called that have a number with a fraction."""
    return f"{_FRACTION}{field.name}"


def observing(frame: DataFrame, lost: list[Column]) -> tuple[DataFrame, Callable[[], dict[str, int]]]:
    """Returns the frame, and what gives the counts once the frame was written."""
    if not lost:
        return frame, dict
    observation = Observation()
    return frame.observe(observation, *lost), lambda: observation.get


def describe_lost(
    counts: Mapping[str, int], fields: Iterable[FieldSpec], carry: Mapping[str, CarriedKind]
) -> list[str]:
    """Returns a warning for each of `lost_values` that was counted."""
    kinds, found = {field.name: field for field in fields}, []
    for name, count in counts.items():
        if not count:
            continue
        if name.startswith(_AMOUNT):
            if count > FEW_NUMBERS:
                own = name.removeprefix(_AMOUNT)
                found.append(
                    f"field {own}: it is called like an amount, and each of its about {count} distinct whole "
                    f"numbers is a bucket of its own: {_REMEDY}"
                )
        elif name.startswith(_CARRIED):
            own = name.removeprefix(_CARRIED)
            found.append(
                f"samples.carry.{own}: {count} lines have a value that is no {carry[own]}: they carry null"
            )
        elif name.startswith(_NO_NUMBER):
            field = kinds[name.removeprefix(_NO_NUMBER)]
            wanted = "finite number" if field.is_numeric else f"list of {field.size} finite numbers"
            found.append(
                f"field {field.name}: {count} lines have a value that is no {wanted}: it counts as missing"
            )
        else:
            own = name.removeprefix(_FRACTION)
            found.append(
                f"field {own}: {count} lines have numbers with fractions, and each distinct number is a "
                f"bucket of its own: {_REMEDY}"
            )
    return found


def lost_notes(counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the note of each field whose values are no numbers, of those that were counted."""
    return {
        f"no_number_{name.removeprefix(_NO_NUMBER)}": count
        for name, count in counts.items()
        if count and name.startswith(_NO_NUMBER)
    }


def _has_fraction(frame: DataFrame, field: FieldSpec) -> Column:
    kind, value = _type_of(frame, field), attribute(field.name)
    if kind == "array":
        return F.coalesce(F.exists(value, _is_fraction), F.lit(False))
    return F.lit(False) if kind == "map" else _is_fraction(value)


def _type_of(frame: DataFrame, field: FieldSpec) -> str:
    return frame.schema[f"@{field.name}"].dataType.typeName()


def _is_fraction(text: Column) -> Column:
    # The cast is dear, and most values have no point.
    return F.coalesce(text.contains(".") & text.try_cast("double").isNotNull(), F.lit(False))
