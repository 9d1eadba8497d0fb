"""The files of a table as Spark reads them: all columns, files of one layout together.

What a file holds is looked up on the driver, in footers and first lines; Spark's own readers do the parsing.
"""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.logs.heads import Head, read_head
from esmm_spark.reading.columns import csv_header, parquet_columns
from esmm_spark.reading.files import list_log_files
from esmm_spark.reading.json_columns import json_schema
from esmm_spark.reading.raw_columns import (
    CORRUPT,
    PATH,
    FileFormat,
    RawPart,
    read_files,
    timestamp_of_nanoseconds,
)
from esmm_spark.reading.values import quoted

# The number of a line in its file, from 1 on, a header not counted; the first byte of the block that Spark
# reads it with.
LINE_NUMBER, BLOCK = "__line", "__block"
RESERVED = (CORRUPT, PATH, LINE_NUMBER, BLOCK)

_TEXT = StringType()


class FileLayout(NamedTuple):
    """What files have in common that are read together.

    Attributes:
        schema: of all columns, in the order of the files.
        nanoseconds: columns that are read as nanoseconds since 1970.
    """

    schema: StructType
    nanoseconds: tuple[str, ...] = ()


class OpenTable(NamedTuple):
    """A table that can be read.

    Attributes:
        path: file or folder.
        parts: at least one.
        byte_order_marks: files that begin with one, which is skipped.
        folder: as the URIs of PATH have it, without its scheme: what ids of lines begin after.
        files: those of each part.
    """

    path: str
    parts: list[RawPart]
    byte_order_marks: int
    folder: str
    files: list[list[str]]


def open_table(spark: SparkSession, table: TableLog, path: str) -> OpenTable:
    """Returns the table at `path`, which `table` describes.

    Raises:
        InputError: nothing stands there, or a file can't be read.
    """
    files = [file for file, _ in list_log_files(path, table.day_folders)]
    if not files:
        raise InputError(f"{path} holds no lines: a table needs one at least")
    layouts, marks = _layouts(files, table)

    def text_of(file: str) -> str:
        return repr(layouts[file])

    groups = [list(group) for _, group in groupby(sorted(files, key=text_of), key=text_of)]
    parts = [RawPart(_read(spark, group, layouts[group[0]], table), group[0]) for group in groups]
    below = [file.removeprefix(path).strip("/") or file.split("/")[-1] for file in files]
    uris = [uri for part in parts for uri in part.lines.inputFiles()]
    return OpenTable(path, parts, marks, _folder_of(uris, below), groups)


def _folder_of(uris: Sequence[str], below: Sequence[str]) -> str:
    """Returns the folder that all files lie in: `data/log` of `file:///data/log/a.csv` and `a.csv`."""
    # Spark has the same URI with one slash here and with three there.
    without_scheme = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*:/*", "", min(uris, key=lambda uri: uri.count("/")))
    depth = min(name.count("/") for name in below) + 1
    return without_scheme.rsplit("/", depth)[0]


def _layouts(files: Sequence[str], table: TableLog) -> tuple[dict[str, FileLayout], int]:
    """Returns file -> layout, and how many files begin with a byte order mark."""
    if table.file_format == "parquet":
        return {file: _parquet_layout(file) for file in files}, 0
    heads = {file: read_head(file) for file in files}
    marks = sum(head.has_mark for head in heads.values())
    if table.file_format == "json":
        texts = {file: head.text for file, head in heads.items()}
        layout = FileLayout(json_schema(texts, list(table.source_texts)))
        return dict.fromkeys(files, layout), marks
    return {file: _csv_layout(file, head, table) for file, head in heads.items()}, marks


def _csv_layout(file: str, head: Head, table: TableLog) -> FileLayout:
    names = table.column_names or csv_header(file, head, table.delimiter)
    _require_names(file, names)
    return FileLayout(StructType([StructField(name, _TEXT) for name in names]))


def _parquet_layout(file: str) -> FileLayout:
    schema, types = parquet_columns(file)
    _require_names(file, schema.names)
    fields, nanoseconds = [], []
    for column in schema:
        known = types[column.name]
        if known.spark is not None:
            fields.append(StructField(column.name, known.spark))
        if known.is_nanoseconds:
            nanoseconds.append(column.name)
    return FileLayout(StructType(fields), tuple(nanoseconds))


def _require_names(file: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{file} has several columns {', '.join(repeated)}: give each its own name")
    reserved = [name for name in names if name in RESERVED]
    if reserved:
        raise InputError(f"{file} has a column {reserved[0]}, a name of our own: give it another")


def _read(spark: SparkSession, files: Sequence[str], layout: FileLayout, table: TableLog) -> DataFrame:
    file_format = FileFormat(table.file_format, not table.column_names, table.delimiter)
    frame = read_files(spark, files, file_format, _stored(layout))
    columns = [_column(name, layout) for name in layout.schema.names]
    places = [F.col("_metadata.file_path").alias(PATH)]
    if file_format.name == "parquet":
        places.append((F.col("_metadata.row_index") + 1).alias(LINE_NUMBER))
    else:
        places.append(F.col("_metadata.file_block_start").alias(BLOCK))
    return frame.select(*columns, CORRUPT, *places)


def _stored(layout: FileLayout) -> StructType:
    return StructType(
        [
            StructField(field.name, LongType() if field.name in layout.nanoseconds else field.dataType)
            for field in layout.schema
        ]
    )


def _column(name: str, layout: FileLayout) -> Column:
    value = F.col(quoted(name))
    return timestamp_of_nanoseconds(value).alias(name) if name in layout.nanoseconds else value
