"""Crosses: the values of an impression that are in its history, with the history's weight."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def cross(frame: DataFrame, history: str, value: str) -> Column:
    """Returns map<string, double>: the impression's values that the history has -> the history's weight.

    Args:
        frame: has both columns.
        history: a column of map<string, double>, null where empty.
        value: a column of an attribute in one of its three types.

    Example:
        History {7: 1.1, 9: 0.7} and value 7 give {7: 1.1}; values [7, 8, 9] give {7: 1.1, 9: 0.7}; value 8
        gives null.
    """
    past, of_impression = F.col(f"`{history}`"), F.col(f"`{value}`")
    kind = frame.schema[value].dataType.typeName()
    if kind == "string":
        weight = F.element_at(past, of_impression)
        return F.when(weight.isNotNull(), F.create_map(of_impression, weight))
    values = F.map_keys(of_impression) if kind == "map" else of_impression
    common = F.map_filter(past, lambda key, _: F.array_contains(values, key))
    return F.when(F.size(common) > 0, common)
