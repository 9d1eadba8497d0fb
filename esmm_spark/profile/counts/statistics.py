"""The first pass: what each column holds, counted over all lines by sketches of bounded size."""

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from esmm_spark.profile.counts.columns import Leaf, ReadTable, entries
from esmm_spark.profile.counts.facts import (
    LENGTH_SHARES,
    NUMBER_SHARES,
    TAIL_SHARES,
    ColumnFacts,
    TableFacts,
)
from esmm_spark.profile.counts.lines import is_flag_text, is_one

# Of HyperLogLog: 2^14 registers, 8 KiB a column and task; its standard error is 1.04 / sqrt(2^14) = 0.8%.
_LOG_REGISTERS = 14
# Of quantiles: ranks within 1 / 1,000.
_ACCURACY = 1_000


def count_columns(lines: DataFrame, read: ReadTable) -> TableFacts:
    """Returns the counts of all columns, by one pass over `lines` (lines.py)."""
    # A line that could not be parsed is counted as the value of one more column, and nothing else.
    malformed = Leaf("malformed", "string", "value")
    number = len(read.leaves)
    seen = [
        F.when(F.col("malformed").isNull(), F.col(f"c{place}")).alias(f"c{place}") for place in range(number)
    ]
    counted = entries(lines.select(*seen, F.col("malformed").alias(f"c{number}")), [*read.leaves, malformed])
    found = {record.column: record for record in _counts(counted).collect()}
    total = found.get(number)
    num_lines, num_malformed = (total.lines, total["values"]) if total else (0, 0)
    columns = [_facts(leaf, found.get(place), num_malformed) for place, leaf in enumerate(read.leaves)]
    return TableFacts(read.table.path, num_lines, num_malformed, columns)


def number_of(text: Column) -> Column:
    """Returns a text's number, null where it is none."""
    number = text.try_cast("double")
    return F.when(~F.isnan(number), number)


def _counts(counted: DataFrame) -> DataFrame:
    value, length = F.col("value"), F.col("length")
    with_number = counted.withColumn("number", number_of(value))
    number = F.col("number")
    return with_number.groupBy("column").agg(
        F.count_if("is_line").alias("lines"),
        F.count_if(F.col("is_line") & value.isNull() & length.isNull()).alias("missing"),
        F.count("value").alias("values"),
        F.hll_sketch_estimate(F.hll_sketch_agg(value, _LOG_REGISTERS)).alias("distinct"),
        F.count("number").alias("numbers"),
        F.count_if(number == F.floor(number)).alias("wholes"),
        F.count_if(is_flag_text(value)).alias("flags"),
        F.count_if(is_one(value)).alias("ones"),
        F.count_if((F.substring(value, 5, 1) == "-") & (F.substring(value, 8, 1) == "-")).alias("dates"),
        F.count_if(value.contains(",")).alias("commas"),
        F.avg("number").alias("mean"),
        F.percentile_approx("number", [*NUMBER_SHARES, *TAIL_SHARES], _ACCURACY).alias("quantiles"),
        F.min("number").alias("lowest"),
        F.max("number").alias("highest"),
        F.min("value").alias("first"),
        F.max("value").alias("last"),
        F.percentile_approx("length", list(LENGTH_SHARES), _ACCURACY).alias("lengths"),
        F.avg("length").alias("mean_length"),
    )


def _facts(leaf: Leaf, record: Row | None, num_malformed: int) -> ColumnFacts:
    if record is None:
        return ColumnFacts(leaf.name, leaf.type, leaf.shape, 0, 0, 0, 0)
    every_share = list(record.quantiles or ())
    quantiles, tails = every_share[: len(NUMBER_SHARES)], every_share[len(NUMBER_SHARES) :]
    if quantiles:
        quantiles[0], quantiles[-1] = record.lowest, record.highest
    return ColumnFacts(
        name=leaf.name,
        type=leaf.type,
        shape=leaf.shape,
        lines=record.lines - num_malformed,
        missing=record.missing - num_malformed,
        values=record["values"],
        distinct=min(record.distinct, record["values"]),
        numbers=record.numbers,
        wholes=record.wholes,
        flags=record.flags,
        ones=record.ones,
        dates=record.dates,
        commas=record.commas,
        mean=record.mean,
        quantiles=quantiles,
        tails=tails,
        first=record["first"],
        last=record["last"],
        lengths=list(record.lengths or ()),
        mean_length=record.mean_length,
    )
