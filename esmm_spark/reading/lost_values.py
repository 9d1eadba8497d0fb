"""Values that aren't what the config takes them for: counted by the pass that reads them, and told."""

from collections.abc import Callable, Iterable, Mapping

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.impressions import CarriedKind
from esmm_spark.reading.attributes import attribute, is_lost_carried
from esmm_spark.reading.numbers import is_lost

_CARRIED, _NO_NUMBER, _FRACTION = "carried ", "no number ", "fraction "


def lost_values(
    frame: DataFrame, fields: Iterable[FieldSpec], carry: Mapping[str, CarriedKind], is_counted: Column
) -> list[Column]:
    """Returns how many lines have a value of another kind than the config says: what `observing` takes.

    Args:
        frame: attributes of lines.
        fields: the feature fields whose attributes are in it.
        carry: the carried columns in it.
        is_counted: whether a line counts.
    """
    found = {
        f"{_CARRIED}{name}": is_lost_carried(name, kind) for name, kind in carry.items() if kind != "string"
    }
    for field in fields:
        if field.is_numbered:
            found[f"{_NO_NUMBER}{field.name}"] = is_lost(frame, field)
        elif field.kind is None:
            found[f"{_FRACTION}{field.name}"] = _has_fraction(frame, field)
    return [F.count_if(is_counted & condition).alias(name) for name, condition in found.items()]


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
        if name.startswith(_CARRIED):
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
                "bucket of its own: set kind: numeric, or kind: vector of a list; kind: categorical says "
                "that it is meant"
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
    kind = frame.schema[f"@{field.name}"].dataType.typeName()
    value = attribute(field.name)
    if kind == "array":
        return F.coalesce(F.exists(value, _is_fraction), F.lit(False))
    return F.lit(False) if kind == "map" else _is_fraction(value)


def _is_fraction(text: Column) -> Column:
    # The cast is dear, and most values have no point.
    return F.coalesce(text.contains(".") & text.try_cast("double").isNotNull(), F.lit(False))
