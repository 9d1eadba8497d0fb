"""The tokens of impression groups as flat numpy arrays, for training and scoring: read and checked.

A list column of Arrow is one buffer of values and one of offsets, and the examples' layout is flat within a
group, so nothing here touches a group in Python, and most arrays are views of what Parquet's decoder wrote.

Shapes: G groups, N impressions, Fc and Fi context and impression fields, B bags (G * Fc or N * Fi), T tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.runtime.arrays import Int64s


class Tokens(NamedTuple):
    """The tokens of B bags, bag after bag; the arrays may be read-only views.

    Attributes:
        rows: [T] int32 or int64, rows of the arena.
        weights: [T] float32, of a field pooled by `mean` already divided by the bag's length.
        lengths: [B] int32, tokens of each bag; 0 for a missing field.
    """

    rows: npt.NDArray[Any]
    weights: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Bags:
    """The tokens of one level of a row group, and where those of each group or impression begin.

    Attributes:
        tokens: of all bags.
        starts: [owners + 1] int64, the first token of each group (context) or impression.
        num_fields: bags of each group or impression.
    """

    tokens: Tokens
    starts: Int64s
    num_fields: int

    def slice(self, start: int, stop: int) -> Tokens:
        """Returns the tokens of the groups or impressions [start, stop), as views."""
        tokens = slice(int(self.starts[start]), int(self.starts[stop]))
        bags = slice(start * self.num_fields, stop * self.num_fields)
        rows, weights, lengths = self.tokens
        return Tokens(rows[tokens], weights[tokens], lengths[bags])


class DamagedGroupError(InputError):
    """A group's lists don't fit together.

    Args:
        key: the group's.
        problem: what it has.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"group {key!r} has {problem}")
        self.key, self.problem = key, problem


def read_bags(columns: pa.RecordBatch, starts: Int64s, spec: FeatureSpec) -> tuple[Bags, Bags]:
    """Returns the bags of the contexts and of the impressions.

    Args:
        columns: one row per group, with the columns of rows, weights and lengths of both levels.
        starts: [G + 1], the first impression of each group.
        spec: the feature spec that they were hashed with.

    Raises:
        DamagedGroupError: the lists of a group don't fit together, or a row lies outside of the arena.
        InputError: a list or a value is missing.
    """
    ones = np.arange(columns.num_rows + 1)
    return (
        _read_level(columns, "context", ones, len(spec.context_fields), spec),
        _read_level(columns, "impression", starts, len(spec.impression_fields), spec),
    )


def _means_as_sums(
    weights: npt.NDArray[np.float32], lengths: npt.NDArray[Any], fields: Sequence[FieldSpec]
) -> npt.NDArray[np.float32]:
    """Returns the weights with those of fields pooled by `mean` divided by their bag's length.

    The model only ever sums weight x row. Where no field is pooled by `mean` the weights come back as they
    are.

    Args:
        weights: [T] float32, bag after bag.
        lengths: [B] tokens of each bag, B a multiple of the fields.
        fields: the fields of the level, in the order of its bags.
    """
    if not any(field.pooling == "mean" for field in fields):
        return weights
    is_mean = np.tile([field.pooling == "mean" for field in fields], len(lengths) // len(fields))
    divisors = np.where(is_mean, lengths, 1).astype(np.float32)
    divided: npt.NDArray[np.float32] = weights / np.repeat(divisors, lengths)
    return divided


def _read_level(
    columns: pa.RecordBatch, level: str, owners: Int64s, num_fields: int, spec: FeatureSpec
) -> Bags:
    """Returns the bags of one level.

    Args:
        columns: one row per group.
        level: "context" or "impression".
        owners: [G + 1], where each group's owners of bags start: the group itself, or its impressions.
        num_fields: bags of each owner.
        spec: the feature spec.
    """
    name = f"{level}_lengths"
    lengths, bag_starts = _flat_list(columns, name, np.int32)
    expected = owners * num_fields
    refuse(
        columns,
        np.diff(bag_starts) != np.diff(expected),
        lambda g: f"{size_of(bag_starts, g)} x {name} where {size_of(expected, g)} belong",
    )
    starts = starts_of(_tokens_of_owners(lengths, num_fields, int(owners[-1])))
    rows, row_starts = _flat_list(columns, f"{level}_rows", None)
    weights, weight_starts = _flat_list(columns, f"{level}_weights", np.float32)
    # A group's lengths must add up to its tokens: else the next group's tokens shift into its bags.
    tokens = np.diff(starts[owners])
    wrong = (tokens != np.diff(row_starts)) | (tokens != np.diff(weight_starts))

    def describe(group: int) -> str:
        num_rows, num_weights = size_of(row_starts, group), size_of(weight_starts, group)
        return (
            f"{num_rows} x {level}_rows and {num_weights} x {level}_weights, where {name} sums to "
            f"{tokens[group]}"
        )

    refuse(columns, wrong, lambda g: f"{describe(g)} or holds a negative number")
    if lengths.size and lengths.min() < 0:
        refuse(columns, any_of(lengths < 0, bag_starts), lambda g: f"{describe(g)} with a negative length")
    if rows.size and (rows.min() < 0 or rows.max() >= spec.num_rows):
        beyond = any_of((rows < 0) | (rows >= spec.num_rows), row_starts)
        refuse(
            columns, beyond, lambda g: f"{level}_rows outside of the arena's rows 0 to {spec.num_rows - 1}"
        )
    fields = spec.of_level("context" if level == "context" else "impression")
    weights = _means_as_sums(weights, lengths, fields)
    return Bags(Tokens(rows, weights, lengths), starts, num_fields)


def _tokens_of_owners(lengths: npt.NDArray[np.int32], num_fields: int, num_owners: int) -> Int64s:
    """Returns [num_owners] the sum of each one's `num_fields` lengths.

    Field by field: numpy sums long columns ten times as fast as short rows.
    """
    bags, sums = lengths.reshape(num_owners, num_fields), np.zeros(num_owners, np.int64)
    for field in range(num_fields):
        sums += bags[:, field]
    return sums


def _flat_list(
    columns: pa.RecordBatch, name: str, dtype: type[np.generic] | None
) -> tuple[npt.NDArray[Any], Int64s]:
    """Returns a list column's values, group after group, and [G + 1] where each group's values start."""
    starts = list_starts(columns, name)
    values = columns.column(name).flatten()
    if values.null_count:
        raise InputError(f"{name} holds {values.null_count} nulls")
    flat = values.to_numpy(zero_copy_only=False)
    return (flat if dtype is None else flat.astype(dtype, copy=False)), starts


def list_starts(columns: pa.RecordBatch, name: str) -> Int64s:
    """Returns [G + 1] where each group's values of a list column start, counted from the first group's."""
    lists = columns.column(name)
    if lists.null_count:
        raise InputError(f"{name} is missing in {lists.null_count} of {len(lists)} groups")
    offsets = lists.offsets.to_numpy().astype(np.int64)
    starts: Int64s = offsets - offsets[0]
    return starts


def starts_of(counts: npt.NDArray[Any]) -> Int64s:
    """Returns [len + 1] int64: counts 2, 0, 3 give 0, 2, 2, 5."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def size_of(starts: Int64s, group: int) -> int:
    """Returns how many values a group has; `starts` is [G + 1]."""
    return int(starts[group + 1] - starts[group])


def any_of(flags: npt.NDArray[np.bool_], starts: Int64s) -> npt.NDArray[np.bool_]:
    """Returns [G], whether some flag of the group is set."""
    if not flags.any():
        return np.zeros(len(starts) - 1, np.bool_)
    return np.diff(starts_of(flags)[starts]) > 0


def refuse(columns: pa.RecordBatch, bad: npt.NDArray[np.bool_], describe: Callable[[int], str]) -> None:
    """Raises DamagedGroupError with the first group that is `bad` [G], if any."""
    if bad.any():
        group = int(np.argmax(bad))
        raise DamagedGroupError(columns.column("group_key")[group].as_py(), describe(group))
