"""Spark's schemas of the tables in `contracts.schemas.columns`."""

from collections.abc import Iterable

from pyspark.sql import types

from esmm_spark.contracts.schemas.columns import Column

_TYPES = {
    "string": types.StringType(),
    "tinyint": types.ByteType(),
    "float": types.FloatType(),
    "double": types.DoubleType(),
}


def spark_schema(columns: Iterable[Column]) -> types.StructType:
    """Returns the Spark schema of `columns`, which hold no lists.

    Spark itself reads such names only in a session; these schemas are needed before there is one.
    """
    return types.StructType([types.StructField(column.name, _TYPES[column.type]) for column in columns])
