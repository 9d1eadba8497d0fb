"""The columns of JSON lines, from the first lines of each file: scalars as the text that stands there."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql.types import (
    ArrayType,
    DataType,
    DoubleType,
    MapType,
    NullType,
    StringType,
    StructField,
    StructType,
)

from esmm_spark.contracts.errors import InputError


def json_schema(heads: Mapping[str, str], sources: Sequence[str]) -> StructType:
    """Returns the columns of files of JSON objects, one a line.

    An object of numbers alone is a map, value -> weight, unless a source has a path into it; other objects
    are structs. A key that has values of several kinds is text.

    Args:
        heads: file -> its first lines.
        sources: the columns, paths and expressions that are read.

    Raises:
        InputError: a file's first lines hold no object.
    """
    found: DataType = StructType()
    for file, text in heads.items():
        records = [record for line in text.splitlines() if isinstance(record := _parsed(line), dict)]
        if text.strip() and not records:
            raise no_object(file)
        for record in records:
            found = _merged(found, _struct(record, sources))
    assert isinstance(found, StructType)
    return StructType([StructField(field.name, _settled(field.dataType)) for field in found])


def no_object(path: str) -> InputError:
    """Returns the error of a file whose first lines hold no JSON object."""
    return InputError(
        f"{path} has no JSON object in its first lines: write one object a line, or say in file_format what "
        "it is"
    )


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None  # rejected as `malformed_line` when the data is read


def _struct(record: Mapping[str, Any], sources: Sequence[str]) -> StructType:
    return StructType([StructField(key, _type_of(value, key, sources)) for key, value in record.items()])


def _type_of(value: Any, key: str, sources: Sequence[str]) -> DataType:
    if value is None or value == {}:
        return NullType()
    if isinstance(value, list):
        kind: DataType = NullType()
        for item in value:
            kind = _merged(kind, _type_of(item, key, sources))
        return ArrayType(kind)
    if isinstance(value, dict):
        are_numbers = all(
            isinstance(item, int | float) and not isinstance(item, bool) for item in value.values()
        )
        if are_numbers and not any(f"{key}." in source for source in sources):
            return MapType(StringType(), DoubleType())
        return _struct(value, sources)
    return StringType()


def _merged(first: DataType, second: DataType) -> DataType:
    """Returns the type of a key that has values of both."""
    if isinstance(first, NullType) or isinstance(second, NullType):
        return second if isinstance(first, NullType) else first
    if isinstance(first, ArrayType) and isinstance(second, ArrayType):
        return ArrayType(_merged(first.elementType, second.elementType))
    if isinstance(first, StructType) and isinstance(second, StructType):
        fields = {field.name: field.dataType for field in first}
        for field in second:
            fields[field.name] = _merged(fields.get(field.name, NullType()), field.dataType)
        return StructType([StructField(name, kind) for name, kind in fields.items()])
    return first if first == second else StringType()


def _settled(kind: DataType) -> DataType:
    """Returns the type with text where nothing but null was seen."""
    if isinstance(kind, NullType):
        return StringType()
    if isinstance(kind, ArrayType):
        return ArrayType(_settled(kind.elementType))
    if isinstance(kind, StructType):
        return StructType([StructField(field.name, _settled(field.dataType)) for field in kind])
    return kind
