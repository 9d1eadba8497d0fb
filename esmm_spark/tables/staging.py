"""The staged lines of a table, and their canonical lines once the numbers in them are placed."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.fitted import FittedNumbers
from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR
from esmm_spark.reading.attributes import field_tokens, impression_head
from esmm_spark.reading.numbers import number_column, numbered_tokens, with_numbers, with_places
from esmm_spark.reading.tokens import all_tokens
from esmm_spark.reading.values import quoted

# Of a number's token, about.
_NUMBER_BYTES = 24


def is_accepted() -> Column:
    """Returns whether a line becomes an impression: it is neither rejected nor noted."""
    return F.col("reason").isNull() & F.col("note").isNull()


def context_texts(spec: FeatureSpec) -> list[str]:
    """Returns the column of each context field's tokens."""
    return [f"context_{number}" for number in range(len(spec.context_fields))]


def staged_lines(lines: DataFrame, config: Config) -> DataFrame:
    """Returns each line's parts; all but the last three columns are null where it isn't accepted.

    split, key              of its group
    head                    the impression's line up to its tokens
    num_tokens, tokens      the number and the tokens of the categorical fields of an impression
    context_<n>             the tokens of each categorical field of a context
    #<field>                of each other field the number, or the vector
    time_us
    num_bytes               of the impression's line, about
    reason, note, raw
    """
    spec = config.features
    categorical = [field for field in spec.impression_fields if not field.is_numbered]
    lines = with_numbers(lines, spec.fields)
    num_tokens, tokens = all_tokens(lines, categorical, {})
    columns = {
        "key": F.col("context_key"),
        "head": impression_head(lines, config.brought),
        "num_tokens": num_tokens.cast("int"),
        "tokens": tokens,
    }
    for text, field in zip(context_texts(spec), spec.context_fields, strict=True):
        if not field.is_numbered:
            columns[text] = field_tokens(lines, field)[1]
    for field in spec.fields:
        if field.is_numbered:
            name = number_column(field)
            columns[name] = F.col(quoted(name))
    staged = (F.when(is_accepted(), column).alias(name) for name, column in columns.items())
    numbers = sum(field.size or 1 for field in spec.impression_fields if field.is_numbered)
    num_bytes = F.octet_length(columns["head"]) + F.octet_length(tokens) + numbers * _NUMBER_BYTES
    counted = F.when(is_accepted(), num_bytes).alias("num_bytes")
    return lines.select("split", *staged, counted, "time_us", "reason", "note", "raw")


def placed_lines(accepted: DataFrame, spec: FeatureSpec, fitted: FittedNumbers) -> DataFrame:
    """Returns `split`, `key`, `time_us`, `line`, and the tokens of each context field.

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
    return placed.select("split", "key", "time_us", line, *contexts)
