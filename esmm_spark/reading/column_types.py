"""Column types of a log's files, and which types can be read as which.

A type belongs to a family: values of one family become the same text whatever their type (`values.py`), so
files may differ within one. int32, uint64, double and decimal are all numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    NullType,
    NumericType,
    ShortType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

TEXT, NUMBER, BOOLEAN, DATE, TIMESTAMP, LIST, WEIGHTS = (
    "text",
    "number",
    "boolean",
    "date",
    "timestamp",
    "list",
    "weights",
)
# All null: it agrees with every other.
NOTHING = "nothing"
# Nothing that an id, a time or an attribute can be: times of day, structs, lists of lists.
OTHER = "other"

IDS = (TEXT, NUMBER, BOOLEAN, DATE, TIMESTAMP, NOTHING)
TIMES = (TEXT, NUMBER, DATE, TIMESTAMP, NOTHING)
ATTRIBUTES = (*IDS, LIST, WEIGHTS)

_SIMPLE: Mapping[pa.DataType, tuple[str, DataType]] = {
    pa.string(): (TEXT, StringType()),
    pa.large_string(): (TEXT, StringType()),
    pa.binary(): (TEXT, BinaryType()),
    pa.large_binary(): (TEXT, BinaryType()),
    pa.bool_(): (BOOLEAN, BooleanType()),
    pa.int8(): (NUMBER, ByteType()),
    pa.int16(): (NUMBER, ShortType()),
    pa.int32(): (NUMBER, IntegerType()),
    pa.int64(): (NUMBER, LongType()),
    # As Spark reads unsigned ones: by the next larger type.
    pa.uint8(): (NUMBER, ShortType()),
    pa.uint16(): (NUMBER, IntegerType()),
    pa.uint32(): (NUMBER, LongType()),
    pa.uint64(): (NUMBER, DecimalType(20, 0)),
    pa.float32(): (NUMBER, FloatType()),
    pa.float64(): (NUMBER, DoubleType()),
    pa.date32(): (DATE, DateType()),
    pa.date64(): (DATE, DateType()),
}
_MAX_PRECISION = 38


@dataclass(frozen=True)
class ColumnType:
    """The type of a column in one file.

    Attributes:
        name: as people write it, e.g. `int64`.
        family: one of the above.
        spark: what Spark reads it as; None of NOTHING, and of OTHER where Spark reads none.
        is_nanoseconds: Spark reads a bigint, which is nanoseconds since 1970.
        items: the family of a list's items or of a map's keys; else empty.
    """

    name: str
    family: str
    spark: DataType | None = None
    is_nanoseconds: bool = False
    items: str = ""

    def agrees_with(self, other: "ColumnType") -> bool:
        """Returns whether both may stand in one column of one log."""
        if NOTHING in (self.family, other.family):
            return True
        return (self.family, self.items) == (other.family, other.items)

    def can_equal(self, other: "ColumnType") -> bool:
        """Returns whether values of the two, e.g. ids of two logs, can be the same text."""
        ours, theirs = self.items or self.family, other.items or other.family
        if ours == theirs or NOTHING in (ours, theirs):
            return True
        # A number's, a date's and a boolean's text is the one that people write; a timestamp's is not.
        return TEXT in (ours, theirs) and TIMESTAMP not in (ours, theirs)

    def __str__(self) -> str:
        return self.name


STRING = ColumnType("string", TEXT, StringType())
UNKNOWN_TYPE = ColumnType("null", NOTHING)
_OF_JSON = {
    "null": UNKNOWN_TYPE,
    "boolean": ColumnType("boolean", BOOLEAN, StringType()),
    "number": ColumnType("number", NUMBER, StringType()),
    "string": STRING,
    "array": ColumnType("array", LIST, ArrayType(StringType()), items=TEXT),
    "object": ColumnType("object", WEIGHTS, MapType(StringType(), DoubleType()), items=TEXT),
}


def json_type(value: object) -> ColumnType:
    """Returns the type of a JSON value: scalars are read as the text that stands in the file."""
    if value is None:
        return _OF_JSON["null"]
    if isinstance(value, bool):
        return _OF_JSON["boolean"]
    for kind, name in ((int | float, "number"), (str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return _OF_JSON[name]
    raise AssertionError(value)


def parquet_type(kind: pa.DataType, physical: str) -> ColumnType:
    """Returns the type of a column of a Parquet file.

    Args:
        kind: Arrow's.
        physical: Parquet's own, e.g. `INT96`; empty of a nested column.
    """
    kind = _plain(kind)
    family, spark = _scalar(kind)
    if pa.types.is_timestamp(kind):
        spark = TimestampNTZType() if kind.tz is None else TimestampType()
        if physical == "INT96":
            return ColumnType("timestamp (INT96)", TIMESTAMP, TimestampType())
        if kind.unit == "ns":
            return ColumnType(str(kind), TIMESTAMP, LongType(), is_nanoseconds=True)
        return ColumnType(str(kind), TIMESTAMP, spark)
    if _is_list(kind):
        return _list_type(kind)
    if pa.types.is_map(kind):
        return _map_type(kind)
    return ColumnType(str(kind), family, _nested_type(kind) if family == OTHER else spark)


def spark_type(kind: DataType) -> ColumnType:
    """Returns the type of what an expression, or a path into a column, gives."""
    name = kind.simpleString()
    if isinstance(kind, ArrayType):
        items = spark_type(kind.elementType).family
        return ColumnType(name, LIST if items in IDS else OTHER, kind, items=items)
    if isinstance(kind, MapType):
        keys, weights = spark_type(kind.keyType).family, spark_type(kind.valueType).family
        return ColumnType(name, WEIGHTS if keys in IDS and weights == NUMBER else OTHER, kind, items=keys)
    families = (
        (StringType | BinaryType, TEXT),
        (NumericType, NUMBER),
        (BooleanType, BOOLEAN),
        (DateType, DATE),
        (TimestampType | TimestampNTZType, TIMESTAMP),
        (NullType, NOTHING),
    )
    family = next((family for types, family in families if isinstance(kind, types)), OTHER)
    return ColumnType(name, family, kind)


def _nested_type(kind: pa.DataType) -> DataType | None:
    """Returns the type of a struct, or of a list of them; None of what Spark doesn't read."""
    try:
        return from_arrow_type(kind)
    except Exception:  # what pyspark raises differs by type
        return None


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _scalar(kind: pa.DataType) -> tuple[str, DataType | None]:
    if pa.types.is_null(kind):
        return NOTHING, None
    if pa.types.is_decimal(kind) and kind.precision <= _MAX_PRECISION and kind.scale >= 0:
        return NUMBER, DecimalType(kind.precision, kind.scale)
    return _SIMPLE.get(kind, (OTHER, None))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _list_type(kind: pa.DataType) -> ColumnType:
    family, spark = _scalar(_plain(kind.value_type))
    if family == NOTHING:
        return ColumnType(str(kind), NOTHING)
    if spark is None:
        return ColumnType(str(kind), OTHER, _nested_type(kind))
    return ColumnType(str(kind), LIST, ArrayType(spark), items=family)


def _map_type(kind: pa.DataType) -> ColumnType:
    keys, key = _scalar(_plain(kind.key_type))
    weights, weight = _scalar(kind.item_type)
    if weights == NOTHING:
        return ColumnType(str(kind), NOTHING)
    if key is None or weight is None or weights != NUMBER:
        return ColumnType(str(kind), OTHER, _nested_type(kind))
    return ColumnType(str(kind), WEIGHTS, MapType(key, weight), items=keys)
