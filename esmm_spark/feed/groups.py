"""A row group of the examples as flat numpy arrays, and its slices by impression.

A list column of Arrow is one buffer of values and one of offsets, and the examples' layout is flat within a
group, so nothing here touches a group in Python, and most arrays are views of what Parquet's decoder wrote.

Shapes: G groups, N impressions, Fc and Fi context and impression fields, B bags (G * Fc or N * Fi), T tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esmm_spark.errors import InputError
from esmm_spark.features import FeatureSpec, FieldSpec

IntArray = npt.NDArray[np.int64]

# What training reads of the examples.
COLUMNS = (
    "group_key",
    "group_hash",
    "click",
    "conversion",
    "context_rows",
    "context_weights",
    "context_lengths",
    "impression_rows",
    "impression_weights",
    "impression_lengths",
)


@dataclass(frozen=True)
class Bags:
    """The tokens of B bags, bag after bag; the arrays may be read-only.

    Attributes:
        rows: [T] int32 or int64, rows of the arena.
        weights: [T] float32, of a field pooled by `mean` already divided by the bag's length.
        lengths: [B] int32, tokens of each bag; 0 for a missing field.
        starts: [owners + 1] int64, the first token of each group (context) or impression.
        num_fields: bags of each group or impression.
    """

    rows: npt.NDArray[Any]
    weights: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int32]
    starts: IntArray
    num_fields: int

    def part(
        self, start: int, stop: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Returns rows, weights and lengths of the groups or impressions [start, stop), as views."""
        tokens = slice(int(self.starts[start]), int(self.starts[stop]))
        bags = slice(start * self.num_fields, stop * self.num_fields)
        return self.rows[tokens], self.weights[tokens], self.lengths[bags]


@dataclass(frozen=True)
class Groups:
    """G groups with N impressions.

    Attributes:
        keys: [G] Arrow strings, for messages.
        hashes: [G] int64 group_hash.
        starts: [G + 1] int64, the first impression of each group.
        click: [N] int8, 0 or 1.
        conversion: [N] int8, 0 or 1.
        context: G * Fc bags.
        impression: N * Fi bags.
    """

    keys: pa.Array
    hashes: IntArray
    starts: IntArray
    click: npt.NDArray[np.int8]
    conversion: npt.NDArray[np.int8]
    context: Bags
    impression: Bags

    @property
    def num_impressions(self) -> int:
        """N."""
        return len(self.click)

    def part(self, start: int, stop: int) -> "Part":
        """Returns the impressions [start, stop), start < stop, and the contexts of their groups.

        A group may be cut; its context is then in both parts. Worked example: groups of 3 and 2 impressions,
        part [2, 4): sizes 1, 1, and `starts_group` says False, True.
        """
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        last = int(np.searchsorted(self.starts, stop, side="left"))
        starts = self.starts[first : last + 1]
        return Part(
            keys=self.keys.slice(first, last - first),
            hashes=self.hashes[first:last],
            starts_group=starts[:-1] >= start,
            group_sizes=np.diff(np.clip(starts, start, stop)),
            click=self.click[start:stop],
            conversion=self.conversion[start:stop],
            context=self.context.part(first, last),
            impression=self.impression.part(start, stop),
        )


@dataclass(frozen=True)
class Part:
    """Some impressions that follow each other, on the memory of their `Groups`.

    Attributes:
        keys: [g] Arrow strings.
        hashes: [g] int64.
        starts_group: [g] bool, whether the part holds the group's first impression.
        group_sizes: [g] int64, impressions of each group that lie in the part.
        click: [n] int8.
        conversion: [n] int8.
        context: rows, weights, lengths of g * Fc bags.
        impression: rows, weights, lengths of n * Fi bags.
    """

    keys: pa.Array
    hashes: IntArray
    starts_group: npt.NDArray[np.bool_]
    group_sizes: IntArray
    click: npt.NDArray[np.int8]
    conversion: npt.NDArray[np.int8]
    context: tuple[npt.NDArray[Any], npt.NDArray[np.float32], npt.NDArray[np.int32]]
    impression: tuple[npt.NDArray[Any], npt.NDArray[np.float32], npt.NDArray[np.int32]]


def read_groups(table: pa.Table, spec: FeatureSpec) -> Groups:
    """Returns the groups of an Arrow table with the columns COLUMNS, one row per group.

    Args:
        table: a row group of the examples.
        spec: the feature spec that it was hashed with.

    Raises:
        InputError: the lists of a group don't fit together, a label is missing or no 0 or 1, or a row lies
            outside of the arena. Such a group would otherwise be trained on with another group's tokens, or
            read beyond the arena's memory.
    """
    batch = table.combine_chunks().to_batches()
    columns = batch[0] if batch else pa.RecordBatch.from_pylist([], schema=table.schema)
    click, starts = _flat_list(columns, "click", np.int8)
    conversion, conversion_starts = _flat_list(columns, "conversion", np.int8)
    _refuse(
        columns,
        np.diff(starts) != np.diff(conversion_starts),
        lambda g: f"{_size(starts, g)} x click but {_size(conversion_starts, g)} x conversion",
    )
    wrong = (click < 0) | (click > 1) | (conversion < 0) | (conversion > click)
    _refuse(columns, _any_of(wrong, starts), lambda g: "labels that are no clicks and conversions")
    num_groups, num_impressions = columns.num_rows, len(click)
    num_context, num_impression = len(spec.context_fields), len(spec.impression_fields)
    ones = np.arange(num_groups + 1)
    return Groups(
        keys=columns.column("group_key"),
        hashes=columns.column("group_hash").to_numpy(zero_copy_only=False),
        starts=starts,
        click=click,
        conversion=conversion,
        context=_read_bags(columns, "context", ones, num_context, spec),
        impression=_read_bags(columns, "impression", starts, num_impression, spec)
        if num_impressions
        else _read_bags(columns, "impression", np.zeros_like(starts), num_impression, spec),
    )


def means_as_sums(
    weights: npt.NDArray[np.float32], lengths: npt.NDArray[Any], fields: Sequence[FieldSpec]
) -> npt.NDArray[np.float32]:
    """Returns the weights with those of fields pooled by `mean` divided by their bag's length.

    The model only ever sums weight x row. Where every field is pooled by `sum` the weights come back as they
    are.

    Args:
        weights: [T] float32, bag after bag.
        lengths: [B] tokens of each bag, B a multiple of the fields.
        fields: the fields of the level, in the order of its bags.
    """
    if not fields or all(field.pooling == "sum" for field in fields):
        return weights
    is_mean = np.tile([field.pooling == "mean" for field in fields], len(lengths) // len(fields))
    divisors = np.where(is_mean, lengths, 1).astype(np.float32)
    divided: npt.NDArray[np.float32] = weights / np.repeat(divisors, lengths)
    return divided


def _read_bags(
    columns: pa.RecordBatch, level: str, owners: IntArray, num_fields: int, spec: FeatureSpec
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
    _refuse(
        columns,
        np.diff(bag_starts) != np.diff(expected),
        lambda g: f"{_size(bag_starts, g)} x {name} where {_size(expected, g)} belong",
    )
    starts_of_bags = _starts(lengths)
    rows, row_starts = _flat_list(columns, f"{level}_rows", None)
    weights, weight_starts = _flat_list(columns, f"{level}_weights", np.float32)
    # A group's lengths must add up to its tokens: else the next group's tokens shift into its bags.
    tokens = np.diff(starts_of_bags[bag_starts])
    wrong = (tokens != np.diff(row_starts)) | (tokens != np.diff(weight_starts))
    _refuse(
        columns,
        wrong | (_any_of(lengths < 0, bag_starts) if lengths.size and lengths.min() < 0 else False),
        lambda g: (
            f"{_size(row_starts, g)} x {level}_rows and {_size(weight_starts, g)} x {level}_weights, where "
            f"{name} sums to {tokens[g]} or holds a negative number"
        ),
    )
    if rows.size and (rows.min() < 0 or rows.max() >= spec.num_rows):
        beyond = _any_of((rows < 0) | (rows >= spec.num_rows), row_starts)
        _refuse(
            columns, beyond, lambda g: f"{level}_rows outside of the arena's rows 0 to {spec.num_rows - 1}"
        )
    fields = spec.of_level("context" if level == "context" else "impression")
    weights = means_as_sums(weights, lengths, fields)
    starts = starts_of_bags[::num_fields] if num_fields else np.zeros(int(owners[-1]) + 1, np.int64)
    return Bags(rows, weights, lengths, np.ascontiguousarray(starts), num_fields)


def _flat_list(
    columns: pa.RecordBatch, name: str, dtype: type[np.generic] | None
) -> tuple[npt.NDArray[Any], IntArray]:
    """Returns a list column's values, group after group, and [G + 1] where each group's values start."""
    lists = columns.column(name)
    if lists.null_count:
        raise InputError(f"{name} is missing in {lists.null_count} of {len(lists)} groups")
    values = lists.flatten()
    if values.null_count:
        raise InputError(f"{name} holds {values.null_count} nulls")
    flat = values.to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return (flat if dtype is None else flat.astype(dtype, copy=False)), offsets - offsets[0]


def _starts(counts: npt.NDArray[Any]) -> IntArray:
    """Returns [len + 1] int64: counts 2, 0, 3 give 0, 2, 2, 5."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def _size(starts: IntArray, group: int) -> int:
    return int(starts[group + 1] - starts[group])


def _any_of(flags: npt.NDArray[np.bool_], starts: IntArray) -> npt.NDArray[np.bool_]:
    """Returns [G], whether some flag of the group is set."""
    return np.diff(_starts(flags)[starts]) > 0


def _refuse(columns: pa.RecordBatch, bad: npt.NDArray[np.bool_], describe: Callable[[int], str]) -> None:
    """Raises InputError with the first group that is `bad`, if any."""
    if bad.any():
        group = int(np.argmax(bad))
        key = columns.column("group_key")[group].as_py()
        raise InputError(f"group {key!r} has {describe(group)}")
