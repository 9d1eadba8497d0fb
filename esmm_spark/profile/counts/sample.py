"""The second pass: a sample of whole context keys, of bounded size, as numpy arrays on the driver."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.profile.counts.columns import Leaf
from esmm_spark.profile.counts.statistics import number_of
from esmm_spark.runtime.arrays import Bools, Float64s, Int64s

# Of all columns together: 16 bytes each on the driver.
_MAX_CELLS = 10_000_000
_MAX_LINES = 500_000
_STEPS = 1 << 30


class Sampled(NamedTuple):
    """N lines of a sample and C columns.

    Attributes:
        keys: [N] hashes of context keys, int64.
        times_us: [N] float64, NaN where there is no time.
        days: [N] float64, NaN where there is none.
        hashes: [C] arrays [N] int64 of the values as a whole.
        numbers: [C] arrays [N] float64: the values as numbers, of lists their lengths, else NaN.
        missing: [C] arrays [N] bool.
        labels: [K] arrays [N] float64, NaN where unknown.
    """

    keys: Int64s
    times_us: Float64s
    days: Float64s
    hashes: list[Int64s]
    numbers: list[Float64s]
    missing: list[Bools]
    labels: list[Float64s]


def sample_lines(lines: DataFrame, num_lines: int, num_columns: int) -> DataFrame:
    """Returns all lines of a share of the context keys, about as many as the driver takes.

    Which keys follows from their hashes: the same log gives the same sample, however it lies in files. A key
    with very many lines may be cut.

    Args:
        lines: as of lines.py.
        num_lines: all that there are.
        num_columns: columns.
    """
    most = min(_MAX_LINES, _MAX_CELLS // max(num_columns, 1))
    whole = lines.where(F.col("malformed").isNull())
    if num_lines <= most:
        return whole
    # Another hash than the key's own, whose low bits Spark may have partitioned by.
    place = F.pmod(F.xxhash64(F.lit("sample"), "key"), F.lit(_STEPS))
    return whole.where(place < int(_STEPS * most / num_lines)).limit(2 * most)


def to_arrays(sample: DataFrame, leaves: Sequence[Leaf], num_tasks: int) -> Sampled:
    """Returns the sample as arrays."""
    hashes = [_hash(f"c{number}", leaf) for number, leaf in enumerate(leaves)]
    numbers = [_number(f"c{number}", leaf) for number, leaf in enumerate(leaves)]
    missing = [F.col(f"c{number}").isNull() for number in range(len(leaves))]
    columns = [
        F.col("key"),
        F.col("time_us").cast("double"),
        F.col("day").cast("double"),
        *hashes,
        *numbers,
        *missing,
        *(F.col(f"label_{task}") for task in range(num_tasks)),
    ]
    names = [f"a{place}" for place in range(len(columns))]
    selected = sample.select(*(column.alias(name) for name, column in zip(names, columns, strict=True)))
    table = selected.toArrow()
    arrays = [table.column(name).to_numpy() for name in names]
    width = len(leaves)
    keys, times, days, *rest = arrays
    return Sampled(
        keys,
        times.astype(np.float64),
        days.astype(np.float64),
        rest[:width],
        [array.astype(np.float64) for array in rest[width : 2 * width]],
        [array.astype(np.bool_) for array in rest[2 * width : 3 * width]],
        [array.astype(np.float64) for array in rest[3 * width :]],
    )


def _hash(name: str, leaf: Leaf) -> Column:
    if leaf.shape == "weights":
        return F.xxhash64(F.array_sort(F.map_keys(name)))
    return F.xxhash64(F.col(name))


def _number(name: str, leaf: Leaf) -> Column:
    if leaf.shape == "value":
        return number_of(F.col(name))
    return F.when(F.col(name).isNotNull(), F.size(name)).cast("double")
