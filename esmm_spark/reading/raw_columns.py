"""The columns of a log's files as Spark reads them: those that are mapped, and others only if asked for.

Files whose columns have the same types are read together, each such set for itself: so what Spark would
widen, or not read at all, is made text from the type that it has.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, DoubleType, MapType, StringType, StructField, StructType

from esmm_spark.files import filesystems
from esmm_spark.logs.heads import read_head
from esmm_spark.reading.column_types import LIST, NOTHING, WEIGHTS, ColumnType
from esmm_spark.reading.columns import LogFile
from esmm_spark.reading.json_columns import json_schema
from esmm_spark.reading.values import quoted

# The line where it could not be parsed, and the file that it is of.
CORRUPT, PATH = "__corrupt", "__path"

# What the column of a CSV file is called that nobody mapped.
_UNMAPPED = "__column_"
_TEXT = StructField(CORRUPT, StringType())


class FileFormat(NamedTuple):
    """How files are read.

    Attributes:
        name: `parquet`, `json` or `csv`.
        has_header: of CSV, whether the first line has the columns' names.
        delimiter: of CSV.
    """

    name: str
    has_header: bool = True
    delimiter: str = ","


class RawPart(NamedTuple):
    """The files of one layout.

    Attributes:
        lines: their columns, CORRUPT and PATH; a record is a line.
        file: one of them, for messages.
    """

    lines: DataFrame
    file: str


def read_raw(
    spark: SparkSession,
    files: Sequence[LogFile],
    file_format: str,
    types: Mapping[str, ColumnType],
    texts: Sequence[str] = (),
) -> list[RawPart]:
    """Returns the mapped columns, CORRUPT and PATH of all files: a part for each set of files of one layout.

    A mapped column of one name has one of these in all parts: a list, a map, or scalars.

    Args:
        spark: the session.
        files: of one log; none: one part without lines and a file is returned.
        file_format: `parquet`, `json` or `csv`.
        types: mapped column -> its type in the whole log.
        texts: paths and expressions over other columns. If there are any, all that Spark can read are there.
    """
    if not files:
        schema = StructType([StructField(name, _typed(kind)) for name, kind in types.items()])
        empty = spark.createDataFrame([], StructType([*schema, _TEXT, StructField(PATH, StringType())]))
        return [RawPart(empty, "")]

    def layout(file: LogFile) -> str:
        if file_format == "csv":
            return repr(file.header)
        # JSON is read as what the log as a whole says: a file's first lines need not tell.
        read = sorted(file.columns) if texts else types
        return "" if file_format == "json" else repr([(name, file.columns[name]) for name in read])

    groups = [list(group) for _, group in groupby(sorted(files, key=layout), key=layout)]
    nested = _json_others(files, types, texts) if texts and file_format == "json" else StructType()
    parts = []
    for group in groups:
        others = _others(group[0], types) if texts and file_format != "json" else {}
        lines = _read(spark, group, file_format, {**types, **others}, nested)
        parts.append(RawPart(lines, group[0].path))
    return parts


def _others(file: LogFile, types: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """Returns the columns that are not mapped and that Spark can read; no name that stands there twice."""
    return {
        name: kind
        for name, kind in file.columns.items()
        if name not in types and kind.spark is not None and file.header.count(name) == 1
    }


def _json_others(
    files: Sequence[LogFile], types: Mapping[str, ColumnType], texts: Sequence[str]
) -> StructType:
    schema = json_schema({file.path: read_head(file.path).text for file in files}, texts)
    return StructType([field for field in schema if field.name not in types])


def _read(
    spark: SparkSession,
    files: Sequence[LogFile],
    file_format: str,
    types: Mapping[str, ColumnType],
    nested: StructType,
) -> DataFrame:
    """Returns the columns of `types`, and of JSON those of `nested`, too."""
    names = [F.col(quoted(name)) for name in types]
    if file_format == "parquet":
        here = {name: files[0].columns[name] for name in types}
        schema = _schema({name: kind.spark for name, kind in here.items() if kind.spark is not None})
        names = [_parquet_column(name, here[name], types[name]).alias(name) for name in types]
    elif file_format == "json":
        typed = _schema({name: _typed(kind) for name, kind in types.items()})
        schema = StructType([*typed, *nested])
        names += [F.col(quoted(name)) for name in nested.names]
    else:
        # By position: nobody else's columns need names that differ.
        mapped = [
            name if name in types else f"{_UNMAPPED}{place}" for place, name in enumerate(files[0].header)
        ]
        schema = _schema(dict.fromkeys(mapped, StringType()))
    frame = read_files(spark, [file.path for file in files], FileFormat(file_format), schema)
    return frame.select(*names, CORRUPT, F.col("_metadata.file_path").alias(PATH))


def read_files(
    spark: SparkSession, files: Sequence[str], file_format: FileFormat, schema: StructType
) -> DataFrame:
    """Returns the columns of files of one layout, and CORRUPT.

    Args:
        spark: the session.
        files: their paths.
        file_format: of all of them.
        schema: their columns; of Parquet some of them may be left out.
    """
    paths = [filesystems.spark_source(file) for file in files]
    if file_format.name == "parquet":
        # Page checksums are there if Spark wrote the file; pyarrow of this version writes none.
        reader = spark.read.option("parquet.page.verify-checksum.enabled", "true")
        return reader.schema(schema).parquet(*paths).withColumn(CORRUPT, F.lit(None).cast("string"))
    reader = spark.read.schema(StructType([*schema, _TEXT])).option("mode", "PERMISSIVE")
    reader = reader.option("columnNameOfCorruptRecord", CORRUPT)
    if file_format.name == "json":
        return reader.json(paths)
    # RFC 4180: a quote inside quotes is written twice.
    reader = reader.option("header", file_format.has_header).option("sep", file_format.delimiter)
    return reader.option("escape", '"').csv(paths)


def _schema(types: Mapping[str, DataType]) -> StructType:
    return StructType([StructField(name, kind) for name, kind in types.items()])


def _typed(kind: ColumnType) -> DataType:
    """Returns what to read a column as that is text, or null, where it stands."""
    if kind.family == LIST:
        return ArrayType(StringType())
    if kind.family == WEIGHTS:
        return MapType(StringType(), DoubleType())
    return StringType()


def _parquet_column(name: str, here: ColumnType, in_log: ColumnType) -> Column:
    """Returns a column of a Parquet file: typed where it is all null, timestamps in microseconds."""
    if here.family == NOTHING:
        return F.lit(None).cast(_typed(in_log))
    value = F.col(quoted(name))
    return timestamp_of_nanoseconds(value) if here.is_nanoseconds else value


def timestamp_of_nanoseconds(value: Column) -> Column:
    """Returns the timestamp of nanoseconds since 1970, rounded down to microseconds."""
    # In integers: a double's 53 bits can't hold nanoseconds since 1970.
    whole = value - F.pmod(value, F.lit(1000))
    return F.timestamp_micros(F.call_function("div", whole, F.lit(1000)))
