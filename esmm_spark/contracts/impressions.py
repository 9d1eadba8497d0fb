"""The columns of an impression beside its features: labels, and columns carried from log to score."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks

# Of a carried column: `float` is a double, `int` a bigint.
CarriedKind = Literal["float", "int", "string"]


class ImpressionColumns(NamedTuple):
    """What an impression brings beside its features.

    Attributes:
        tasks: a label for each.
        carry: carried column -> its type, in the order of the config (`samples.carry`).
    """

    tasks: Tasks
    carry: Mapping[str, CarriedKind]


# Of Ali-CCP's lines.
DEFAULT_COLUMNS = ImpressionColumns(DEFAULT_TASKS, {})


def numbers(carry: Mapping[str, CarriedKind]) -> dict[str, CarriedKind]:
    """Returns the carried columns that hold numbers: what a loss may read."""
    return {name: kind for name, kind in carry.items() if kind != "string"}
