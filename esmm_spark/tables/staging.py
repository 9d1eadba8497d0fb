"""The staged lines of a table, and their canonical lines once the numbers in them are placed."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, DataType, IntegerType, LongType, StringType, StructField, StructType

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.amounts import is_amount_name
from esmm_spark.contracts.fields.fitted import FittedNumbers
from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR
from esmm_spark.reading.attributes import carried_texts, field_tokens
from esmm_spark.reading.numbers import number_column, numbered_tokens, with_numbers, with_places
from esmm_spark.reading.tokens import all_tokens
from esmm_spark.reading.values import quoted
from esmm_spark.tables.assembling import (
    CONTEXT_LINES,
    CONTEXT_TIME,
    FRACTIONS,
    Assembly,
    TokenField,
    assembled,
)

# Of a number's token, about.
_NUMBER_BYTES = 24

_TEXT, _LONG = StringType(), LongType()
_FIRST_COLUMNS: dict[str, DataType] = {
    "split": _TEXT,
    "key": _TEXT,
    "head": _TEXT,
    "num_tokens": IntegerType(),
    "tokens": _TEXT,
}
_RUNS: dict[str, DataType] = {CONTEXT_LINES: _LONG, CONTEXT_TIME: _LONG}
_LAST_COLUMNS: dict[str, DataType] = {
    "num_bytes": _LONG,
    FRACTIONS: ArrayType(_LONG),
    "time_us": _LONG,
    "reason": _TEXT,
    "note": _TEXT,
    "raw": _TEXT,
}


def is_accepted() -> Column:
    """Returns whether a line becomes an impression: it is neither rejected nor noted."""
    return F.col("reason").isNull() & F.col("note").isNull()


def context_texts(spec: FeatureSpec) -> list[str]:
    """Returns the column of each context field's tokens."""
    return [f"context_{number}" for number in range(len(spec.context_fields))]


def texts_made_later(config: Config) -> frozenset[str]:
    """Returns the attributes that `read_lines` may leave as they stand: texts are made with the tokens."""
    left = (
        field.name
        for field in config.features.fields
        # Amounts are counted as Spark reads them.
        if not field.is_numbered and not (field.kind is None and is_amount_name(field.name))
    )
    return frozenset(left) - config.samples.carry.keys()


def staged_lines(lines: DataFrame, config: Config) -> DataFrame:
    """Returns each line's parts; all but `split` and the last four are null where it isn't accepted.

    split, key              of its group
    head                    the impression's line up to its tokens
    num_tokens, tokens      the number and the tokens of the categorical fields of an impression
    context_<n>             the tokens of each categorical field of a context
    context_lines           of the first of lines with one context: how many they are; null of the others
    context_time_us         and their least time
    #<field>                of each other field the number, or the vector
    num_bytes               of the impression's line, about
    fractions               of a batch's first line: how many lines of the batch have a number with a
                            fraction, for each categorical field
    time_us
    reason, note, raw
    """
    spec, brought = config.features, config.brought
    lines = with_numbers(lines, spec.fields)
    contexts = dict(zip([field.name for field in spec.context_fields], context_texts(spec), strict=True))
    made: dict[str, Column] = {}
    numbers: dict[str, DataType] = {}
    fields = []
    for field in spec.fields:
        if field.is_numbered:
            name = number_column(field)
            numbers[name] = lines.schema[name].dataType
            continue
        column, is_made = f"@{field.name}", lines.schema[f"@{field.name}"].dataType.typeName() == "map"
        # Also raises where a field that isn't pooled has a map.
        tokens = field_tokens(lines, field)[1]
        made[column] = tokens if is_made else F.col(quoted(column))
        fields.append(TokenField(field.name, column, is_made, contexts.get(field.name)))
    carried = carried_texts(lines, brought)
    how = Assembly(
        head=("impression_id", *brought.tasks.names, "context_key", *carried),
        fields=tuple(fields),
        kept=tuple(numbers),
        contexts=tuple(number_column(field) for field in spec.context_fields if field.is_numbered),
        has_runs=config.logs.table is not None and config.logs.table.context_key is not None,
    )
    taken = lines.select(
        "split",
        "impression_id",
        "context_key",
        *brought.tasks.names,
        *(text.alias(name) for name, text in carried.items()),
        *(column.alias(name) for name, column in made.items()),
        *(F.col(quoted(name)) for name in numbers),
        *("time_us", "reason", "note", "raw"),
    )
    columns = {
        **_FIRST_COLUMNS,
        **dict.fromkeys(contexts.values(), _TEXT),
        **_RUNS,
        **numbers,
        **_LAST_COLUMNS,
    }
    schema = StructType([StructField(name, kind) for name, kind in columns.items()])
    in_arrow = to_arrow_schema(schema)

    def assemble(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return assembled(batches, how, in_arrow)

    return taken.mapInArrow(assemble, schema)


def placed_lines(accepted: DataFrame, spec: FeatureSpec, fitted: FittedNumbers) -> DataFrame:
    """Returns `split`, `key`, `line`, and of the first of lines with one context its fields' tokens and runs.

    Args:
        accepted: staged lines.
        spec: the feature spec.
        fitted: what places the numbers.
    """
    placed = with_places(accepted, spec.fields, fitted)
    numbered = [field for field in spec.impression_fields if field.is_numbered]
    num_tokens, tokens = all_tokens(placed, numbered, fitted)
    # concat_ws leaves a null out, and an empty text not.
    both = F.concat_ws(TOKEN_SEPARATOR, *(F.nullif(text, F.lit("")) for text in (F.col("tokens"), tokens)))
    number = (F.col("num_tokens") + num_tokens.cast("int")).cast("string")
    contexts = [
        (numbered_tokens(field, fitted)[1] if field.is_numbered else F.col(text)).alias(text)
        for text, field in zip(context_texts(spec), spec.context_fields, strict=True)
    ]
    line = F.concat_ws(",", "head", number, both).alias("line")
    return placed.select("split", "key", line, CONTEXT_LINES, CONTEXT_TIME, *contexts)
