"""The third pass: exact counts of frequent values, by label and by period.

Which values are frequent is what the sample says; how often they stand in the log is counted in the log.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import NamedTuple

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from esmm_spark.profile.counts.columns import ReadTable, entries
from esmm_spark.profile.counts.facts import PeriodFacts, TableFacts, ValueCount
from esmm_spark.profile.counts.lines import parent_labels
from esmm_spark.profile.counts.statistics import number_of

NUM_TOP = 20
MOST_PERIODS = 31
_EPOCH = date(1970, 1, 1)


class Periods(NamedTuple):
    """Days, or runs of several days so that there are at most MOST_PERIODS.

    Attributes:
        first_day: since 1970.
        num_days: of all.
        days_each: of one.
    """

    first_day: int
    num_days: int
    days_each: int

    @property
    def names(self) -> list[str]:
        """`2026-11-23`, or `2026-11-23 +7` of a week; none where there are no days."""
        starts = range(self.first_day, self.first_day + self.num_days, self.days_each)
        more = f" +{self.days_each}" if self.days_each > 1 else ""
        return [f"{_EPOCH + timedelta(days=start)}{more}" for start in starts]


NO_PERIODS = Periods(0, 0, 1)


def periods_of(first_day: int, last_day: int) -> Periods:
    """Returns the periods of days from the first to the last, both since 1970."""
    num_days = last_day - first_day + 1
    return Periods(first_day, num_days, -(-num_days // MOST_PERIODS))


def frequent_values(sample: DataFrame, read: ReadTable) -> DataFrame:
    """Returns `column` and `top`: the NUM_TOP values that are most frequent in the sample, of each column."""
    counts = entries(sample, read.leaves).where("value is not null").groupBy("column", "value").count()
    by_count = Window.partitionBy("column").orderBy(F.desc("count"), "value")
    ranked = counts.withColumn("place", F.row_number().over(by_count))
    return ranked.where(F.col("place") <= NUM_TOP).select("column", F.col("value").alias("top"))


def with_counts(
    facts: TableFacts,
    lines: DataFrame,
    read: ReadTable,
    tasks: tuple[Sequence[str], Sequence[int]],
    periods: Periods,
    frequent: DataFrame,
) -> TableFacts:
    """Returns the facts with top values, drift and labels, by one pass over `lines`.

    Args:
        facts: of the first pass.
        lines: as of lines.py.
        read: the table.
        tasks: [K] names, and the index of each one's parent.
        periods: of the log.
        frequent: as `frequent_values` returns them; small.
    """
    names, parents = tasks
    grouped = _grouped(lines, read, parents, periods, frequent)
    by_column: dict[int, list[Row]] = defaultdict(list)
    for record in grouped.collect():
        by_column[record.column].append(record)
    by_period = [_of_period(by_column[0], number) for number in range(len(periods.names))]
    drift = {
        leaf.name: [_period(_of_period(by_column[place], number)) for number in range(len(periods.names))]
        for place, leaf in enumerate(read.leaves)
    }
    return replace(
        facts,
        top={leaf.name: _top(by_column[place], names) for place, leaf in enumerate(read.leaves)},
        periods=periods.names,
        drift=drift if periods.names else {},
        labels={name: _label(by_column[0], task) for task, name in enumerate(names)},
        label_periods={
            name: [_label(records, task) for records in by_period] for task, name in enumerate(names)
        },
        orphans={name: _lines(by_column[0], f"orphan_{task}") for task, name in enumerate(names)},
        unknown={name: _lines(by_column[0], f"unknown_{task}") for task, name in enumerate(names)},
    )


def _grouped(
    lines: DataFrame, read: ReadTable, parents: Sequence[int], periods: Periods, frequent: DataFrame
) -> DataFrame:
    """Returns the sums of each column, period and frequent value, null of all others."""
    whole = lines.where(F.col("malformed").isNull())
    judged = parent_labels(parents)
    period = F.floor((F.col("day") - periods.first_day) / periods.days_each)
    last = max(len(periods.names) - 1, 0)
    others = {"period": F.greatest(F.lit(0), F.least(F.lit(last), period)).cast("int")}
    for number, is_judged in enumerate(judged):
        others[f"judged_{number}"] = is_judged.cast("int")
        others[f"positive_{number}"] = (is_judged & (F.col(f"label_{number}") == 1)).cast("int")
        others[f"orphan_{number}"] = (~is_judged & (F.col(f"label_{number}") == 1)).cast("int")
        others[f"unknown_{number}"] = F.col(f"label_{number}").isNull().cast("int")
    columns = [f"c{number}" for number in range(len(read.leaves))]
    with_others = whole.select(*columns, *(column.alias(name) for name, column in others.items()))
    counted = entries(with_others, read.leaves, list(others))
    joined = counted.join(
        F.broadcast(frequent),
        (counted["column"] == frequent["column"]) & (counted["value"] == frequent["top"]),
        how="left",
    ).select(counted["*"], "top")
    of_line = F.when(F.col("is_line"), number_of(F.col("value")))
    sums = [name for name in others if name != "period"]
    return joined.groupBy("column", "period", "top").agg(
        F.count_if("is_line").alias("lines"),
        F.count_if(F.col("is_line") & F.col("value").isNull() & F.col("length").isNull()).alias("missing"),
        F.count("value").alias("values"),
        F.sum(of_line).alias("total"),
        F.count(of_line).alias("numbers"),
        *(F.sum(name).alias(name) for name in sums),
        *(F.sum(F.when(F.col("is_line"), F.col(name))).alias(f"line_{name}") for name in sums),
    )


def _of_period(records: Sequence[Row], number: int) -> list[Row]:
    return [record for record in records if record.period == number]


def _top(records: Sequence[Row], tasks: Sequence[str]) -> list[ValueCount]:
    sums: dict[str, list[int]] = {}
    for record in records:
        if record.top is None:
            continue
        of_value = sums.setdefault(record.top, [0] * (1 + 2 * len(tasks)))
        of_value[0] += record["values"]
        for task in range(len(tasks)):
            of_value[1 + 2 * task] += record[f"positive_{task}"] or 0
            of_value[2 + 2 * task] += record[f"judged_{task}"] or 0
    found = []
    for value, (count, *pairs) in sums.items():
        rates = {
            task: pairs[2 * number] / pairs[2 * number + 1]
            for number, task in enumerate(tasks)
            if pairs[2 * number + 1]
        }
        found.append(ValueCount(value, count, rates))
    return sorted(found, key=lambda each: (-each.times, each.value))


def _period(records: Sequence[Row]) -> PeriodFacts:
    numbers = sum(record.numbers for record in records)
    return PeriodFacts(
        lines=sum(record.lines for record in records),
        missing=sum(record.missing for record in records),
        values=sum(record["values"] for record in records),
        mean=sum(record.total or 0.0 for record in records) / numbers if numbers else None,
        tops={record.top: record["values"] for record in records if record.top is not None},
    )


def _label(records: Sequence[Row], task: int) -> tuple[int, int]:
    """Returns the positives of a task and the lines on which it is judged, from the records of one column."""
    return _lines(records, f"positive_{task}"), _lines(records, f"judged_{task}")


def _lines(records: Sequence[Row], what: str) -> int:
    """Returns on how many lines `what` is true, from the records of one column."""
    return sum(record[f"line_{what}"] or 0 for record in records)
