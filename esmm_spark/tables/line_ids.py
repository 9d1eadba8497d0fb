"""Ids of impressions that have none in the log: file and number of the line, the same in each run."""

from itertools import groupby

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.reading.exploding import position_of
from esmm_spark.reading.raw_columns import CORRUPT, PATH
from esmm_spark.reading.values import quoted
from esmm_spark.spark.steps import step
from esmm_spark.tables.files import BLOCK, LINE_NUMBER, OpenTable

_PLACE, _SHIFT = "__place", "__shift"
# Of monotonically_increasing_id: the bits that number the lines of one task.
_IN_TASK = (1 << 33) - 1


def with_line_numbers(lines: DataFrame) -> DataFrame:
    """Returns the lines of a part with LINE_NUMBER.

    Parquet has it. Of text Spark knows which block of a file a line is of, and its place among the lines of
    the task: one pass more counts the lines of each block, and so tells what number the first of a block has.
    """
    if LINE_NUMBER in lines.columns:
        return lines
    place = F.monotonically_increasing_id().bitwiseAND(F.lit(_IN_TASK))
    placed = lines.withColumn(_PLACE, place)
    # CORRUPT has the lines parsed as they are later, and must not be asked for alone.
    counted = placed.groupBy(PATH, BLOCK).agg(
        F.min(_PLACE).alias("first"),
        F.count("*").alias("lines"),
        F.count(CORRUPT),
        F.count(quoted(lines.columns[0])),
    )
    with step(lines.sparkSession, "number the lines"):
        found = sorted(counted.collect())
    shifts = []
    for _, blocks in groupby(found, key=lambda block: block[PATH]):
        before = 0
        for block in blocks:
            shifts.append((block[PATH], block[BLOCK], before - block["first"] + 1))
            before += block["lines"]
    known = lines.sparkSession.createDataFrame(shifts, f"{PATH} string, {BLOCK} bigint, {_SHIFT} bigint")
    numbered = placed.join(F.broadcast(known), on=[PATH, BLOCK], how="left")
    return numbered.withColumn(LINE_NUMBER, F.col(_PLACE) + F.col(_SHIFT)).drop(_PLACE, _SHIFT)


def line_id(opened: OpenTable, explode: str | None) -> Column:
    """Returns `<path below the table's>:<number of the line, from 1 on>`, and `:<position>` of an item.

    Worked example: the second line of `day=1/part-0.parquet` is `day=1/part-0.parquet:2`, wherever the table
    lies and whatever else is in it.
    """
    below = F.substring_index(PATH, f"/{opened.folder}/", -1)
    # As Spark has it, a comma of a name is no %2C, and would end the id.
    parts = [F.replace(below, F.lit(","), F.lit("%2C")), F.col(LINE_NUMBER).cast("string")]
    if explode is not None:
        parts.append(F.col(quoted(position_of(explode))).cast("string"))
    return F.concat(*[item for part in parts for item in (F.lit(":"), part)][1:])
