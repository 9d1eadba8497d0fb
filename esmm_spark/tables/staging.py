"""The staged lines of a table, and their canonical lines once the numbers in them are placed."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, DataType, IntegerType, LongType, StringType, StructField, StructType

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.amounts import is_amount_name
from esmm_spark.contracts.fields.fitted import FittedNumbers
from esmm_spark.contracts.schemas.line_format import TOKEN_SEPARATOR
from esmm_spark.files import filesystems, storage
from esmm_spark.logs.line_files import TASK_BYTES
from esmm_spark.logs.lines import Lines, lines_of
from esmm_spark.logs.raw_files import LineTasks
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
    joined_lines,
)
from esmm_spark.tables.row_groups import TableRowGroup, row_group_tasks

# Of a number's token, about.
_NUMBER_BYTES = 24
# Lines that are read at once, and what they are made of.
_LINES, _LINE_COLUMNS = 1 << 16, ["split", "head", "num_tokens", "tokens"]

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


def assembly_of(config: Config, are_made: Collection[str] = (), carried: Sequence[str] = ()) -> Assembly:
    """Returns what lines are made of.

    Args:
        config: the config.
        are_made: fields whose attributes are tokens already.
        carried: the columns of the texts that are carried.
    """
    spec, table = config.features, config.logs.table
    assert table is not None
    contexts = dict(zip([field.name for field in spec.context_fields], context_texts(spec), strict=True))
    numbered = [field for field in spec.fields if field.is_numbered]
    return Assembly(
        head=("impression_id", *config.tasks.names, "context_key", *carried),
        fields=tuple(
            TokenField(field.name, f"@{field.name}", field.name in are_made, contexts.get(field.name))
            for field in spec.fields
            if not field.is_numbered
        ),
        kept=tuple(number_column(field) for field in numbered),
        contexts=tuple(number_column(field) for field in numbered if field.name in contexts),
        has_runs=table.context_key is not None,
    )


def staged_schema(config: Config, numbers: Mapping[str, DataType]) -> StructType:
    """Returns the columns of staged lines; `numbers` are the columns of numbers and vectors."""
    contexts = dict.fromkeys(context_texts(config.features), _TEXT)
    columns = {**_FIRST_COLUMNS, **contexts, **_RUNS, **numbers, **_LAST_COLUMNS}
    return StructType([StructField(name, kind) for name, kind in columns.items()])


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
    made: dict[str, Column] = {}
    are_made: set[str] = set()
    numbers: dict[str, DataType] = {}
    for field in spec.fields:
        if field.is_numbered:
            numbers[number_column(field)] = lines.schema[number_column(field)].dataType
            continue
        column = f"@{field.name}"
        made[column] = F.col(quoted(column))
        if lines.schema[column].dataType.typeName() == "map":
            are_made.add(field.name)
            made[column] = field_tokens(lines, field)[1]
    carried = carried_texts(lines, brought)
    how = assembly_of(config, are_made, tuple(carried))
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
    schema = staged_schema(config, numbers)
    in_arrow = to_arrow_schema(schema)

    names = taken.columns

    def assemble(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        named = (pa.RecordBatch.from_arrays(batch.columns, names=names) for batch in batches)
        return assembled(named, how, in_arrow)

    # mapInArrow takes a point in a name for a path.
    return taken.toDF(*(f"column_{place}" for place in range(len(names)))).mapInArrow(assemble, schema)


def staged_tasks(folder: str, split: str) -> LineTasks:
    """Returns the tasks that read a split's impressions from staged lines of categorical fields alone."""
    files = [(storage.join(folder, name), split) for name, _ in storage.list_files(folder, ".parquet")]
    tasks, _ = row_group_tasks(files, TASK_BYTES)
    return LineTasks(len(tasks), partial(_read_staged, tasks))


def _read_staged(tasks: Sequence[Sequence[TableRowGroup]], number: int) -> Iterator[Lines]:
    for group in tasks[number]:
        filesystem, inner = filesystems.filesystem_of(group.path)
        with pq.ParquetFile(inner, filesystem=filesystem) as file:
            for batch in file.iter_batches(_LINES, [group.number], _LINE_COLUMNS, use_threads=False):
                # Lines that aren't accepted have no head.
                is_of_split = pc.and_(pc.equal(batch["split"], group.split), batch["head"].is_valid())
                yield lines_of(joined_lines(batch.filter(is_of_split)))


def placed_lines(accepted: DataFrame, spec: FeatureSpec, fitted: FittedNumbers) -> DataFrame:
    """Returns `split`, `key`, `line`, and of the first of lines with one context its fields' tokens and runs.

    The latter are left out where the lines are staged without them.

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
    line = F.concat_ws(",", "head", number, both).alias("line")
    if CONTEXT_LINES not in accepted.columns:
        return placed.select("split", "key", line)
    contexts = [
        (numbered_tokens(field, fitted)[1] if field.is_numbered else F.col(text)).alias(text)
        for text, field in zip(context_texts(spec), spec.context_fields, strict=True)
    ]
    return placed.select("split", "key", line, CONTEXT_LINES, CONTEXT_TIME, *contexts)
