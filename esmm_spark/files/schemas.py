"""Arrow's schemas of the tables in `contracts.schemas.columns`."""

from collections.abc import Iterable

import pyarrow as pa

from esmm_spark.contracts.schemas.columns import Column

_TYPES = {
    "binary": pa.binary(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
}


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """Returns the Arrow schema of `columns`: what has no nulls is declared so, values of lists alike."""
    return pa.schema(
        [pa.field(column.name, arrow_type(column), nullable=column.has_nulls) for column in columns]
    )


def arrow_type(column: Column) -> pa.DataType:
    """Returns the Arrow type of a column: int8 of `tinyint`, a list of int8 of `array<tinyint>`."""
    if not column.type.startswith("array<"):
        return _TYPES[column.type]
    value_type = _TYPES[column.type.removeprefix("array<").removesuffix(">")]
    return pa.list_(value_type if column.has_nulls else pa.field("element", value_type, nullable=False))
