"""Arrow batches of impression groups as flat numpy arrays, and their slices of a bounded size.

A list column of Arrow is one buffer of values and one of offsets, and the examples' layout is flat within a
group, so neither step touches a row in Python. Legend: G groups, N impressions, Fc and Fi context and
impression fields, B bags (G * Fc or N * Fi), T tokens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esmm_spark.errors import InputError
from esmm_spark.features import FeatureSpec
from esmm_spark.feed.groups import means_as_sums

IntArray = npt.NDArray[np.int64]

# What scoring reads of the examples; labels go through to the scores.
GROUP_COLUMNS = (
    "group_key",
    "impression_id",
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
    """The tokens of B bags, bag after bag, on memory that may be written to.

    Attributes:
        rows: [T] int32 or int64, rows of the arena.
        weights: [T] float32.
        lengths: [B] int64, tokens of each bag; 0 for a missing field.
        starts: [B + 1] int64, the first token of each bag.
    """

    rows: npt.NDArray[np.int32] | IntArray
    weights: npt.NDArray[np.float32]
    lengths: IntArray
    starts: IntArray

    def part(self, start: int, stop: int) -> "Bags":
        """Returns the bags [start, stop), on the same memory."""
        tokens = slice(int(self.starts[start]), int(self.starts[stop]))
        return Bags(
            self.rows[tokens],
            self.weights[tokens],
            self.lengths[start:stop],
            self.starts[start : stop + 1] - self.starts[start],
        )


@dataclass(frozen=True)
class Slice:
    """At most `batch_size` impressions and the contexts of their groups.

    Attributes:
        start: first impression, counted from the Arrow batch's first.
        stop: the impression after the last.
        group_sizes: [G] int64, impressions of each group that lie in the slice.
        context: G * Fc bags.
        impression: (stop - start) * Fi bags.
    """

    start: int
    stop: int
    group_sizes: IntArray
    context: Bags
    impression: Bags


@dataclass(frozen=True)
class Groups:
    """An Arrow batch of G groups with N impressions.

    Attributes:
        sizes: [G] int64, impressions of each group; 0 is allowed.
        context: G * Fc bags.
        impression: N * Fi bags.
        num_context_fields: Fc.
        num_impression_fields: Fi.
    """

    sizes: IntArray
    context: Bags
    impression: Bags
    num_context_fields: int
    num_impression_fields: int

    @property
    def num_impressions(self) -> int:
        """N."""
        return int(self.sizes.sum())

    def slices(self, batch_size: int) -> Iterator[Slice]:
        """Yields slices of at most `batch_size` impressions, of equal size but for one impression.

        A group may be cut; its context is then in both slices. Two groups of 3 and 2 impressions in slices of
        2 have group sizes [1], [2], [2]: 5 impressions make 3 slices, which begin at 0, 1 and 3.
        """
        num_impressions = self.num_impressions
        num_slices = -(-num_impressions // batch_size)
        ends = np.cumsum(self.sizes)
        begins = ends - self.sizes
        context_fields, impression_fields = self.num_context_fields, self.num_impression_fields
        for index in range(num_slices):
            start = index * num_impressions // num_slices
            stop = (index + 1) * num_impressions // num_slices
            first = int(np.searchsorted(ends, start, side="right"))
            last = int(np.searchsorted(begins, stop, side="left"))
            sizes = np.minimum(ends[first:last], stop) - np.maximum(begins[first:last], start)
            yield Slice(
                start,
                stop,
                sizes,
                self.context.part(first * context_fields, last * context_fields),
                self.impression.part(start * impression_fields, stop * impression_fields),
            )


def read_groups(batch: pa.RecordBatch, spec: FeatureSpec) -> Groups:
    """Returns the groups of an Arrow batch with the columns GROUP_COLUMNS.

    Args:
        batch: one row per group.
        spec: the feature spec that the rows were hashed with.

    Raises:
        InputError: the lists of a group don't fit together, or a row lies outside of the arena. Such a group
            would otherwise be scored with another group's tokens, or read beyond the arena's memory.
    """
    _, sizes = _flat_list(batch, "impression_id")
    num_context, num_impression = len(spec.context_fields), len(spec.impression_fields)
    return Groups(
        sizes,
        _read_bags(batch, "context", np.full(len(sizes), num_context), spec),
        _read_bags(batch, "impression", sizes * num_impression, spec),
        num_context,
        num_impression,
    )


def read_labels(batch: pa.RecordBatch, column: str, sizes: IntArray) -> pa.Array:
    """Returns [N] int8: the labels of all impressions, null where a group or an impression has none.

    Args:
        batch: one row per group.
        column: "click" or "conversion".
        sizes: [G], impressions of each group.

    Raises:
        InputError: a group has another number of labels than of impressions.
    """
    values, lengths = _flat_list(batch, column)
    known = batch.column(column).is_valid().to_numpy(zero_copy_only=False)
    _refuse(batch, known & (lengths != sizes), lambda g: f"{lengths[g]} x {column}, {sizes[g]} impressions")
    values = values.cast(pa.int8())
    if known.all():
        return values
    has_label = np.repeat(known, sizes)
    # The place of each impression's label in `values`, which holds nothing for a group without labels.
    places = np.cumsum(has_label) - 1
    return values.take(pa.array(places, mask=~has_label))


def divide_weights_of_means(groups: Groups, spec: FeatureSpec) -> Groups:
    """Returns the groups with the weights of fields pooled by `mean` divided by their number of values."""
    if all(field.pooling == "sum" for field in spec.fields):
        return groups
    for bags, fields in (
        (groups.context, spec.context_fields),
        (groups.impression, spec.impression_fields),
    ):
        # The trainer's own function: a mean must be the same in both.
        bags.weights[:] = means_as_sums(bags.weights, bags.lengths, fields)
    return groups


def _read_bags(batch: pa.RecordBatch, level: str, num_bags: IntArray, spec: FeatureSpec) -> Bags:
    """Returns the bags of one level; `num_bags` is [G], how many each group must have."""
    bag_lengths, found = _flat_list(batch, f"{level}_lengths")
    _refuse(batch, found != num_bags, lambda g: f"{found[g]} x {level}_lengths where {num_bags[g]} belong")
    lengths = _values(batch, bag_lengths, f"{level}_lengths", np.int64)
    starts = _offsets(lengths)
    # A group's lengths must add up to its tokens: else the next group's tokens shift into its bags.
    bags_of_groups = _offsets(found)
    tokens = np.diff(starts[bags_of_groups])
    negative = np.diff(_offsets(lengths < 0)[bags_of_groups]) > 0
    rows, num_rows = _flat_list(batch, f"{level}_rows")
    weights, num_weights = _flat_list(batch, f"{level}_weights")
    _refuse(
        batch,
        negative | (tokens != num_rows) | (tokens != num_weights),
        lambda g: (
            f"{num_rows[g]} x {level}_rows and {num_weights[g]} x {level}_weights, "
            f"where {level}_lengths sums to {tokens[g]}{' with a negative length' if negative[g] else ''}"
        ),
    )
    rows = _values(batch, rows, f"{level}_rows", np.int32 if pa.types.is_int32(rows.type) else np.int64)
    beyond = (rows < 0) | (rows >= spec.num_rows)
    _refuse(
        batch,
        np.diff(_offsets(beyond)[_offsets(num_rows)]) > 0,
        lambda g: f"{level}_rows outside of the arena's rows 0 to {spec.num_rows - 1}",
    )
    return Bags(rows, _values(batch, weights, f"{level}_weights", np.float32), lengths, starts)


def _flat_list(batch: pa.RecordBatch, column: str) -> tuple[pa.Array, IntArray]:
    """Returns a list column's values, group after group, and [G] how many each has; a null list has none."""
    lists = batch.column(column)
    return lists.flatten(), lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def _offsets(counts: npt.NDArray[Any]) -> IntArray:
    """Returns [len + 1] int64: counts 2, 0, 3 give 0, 2, 2, 5."""
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def _values(batch: pa.RecordBatch, array: pa.Array, column: str, dtype: type) -> npt.NDArray[Any]:
    """Returns a copy of `array`: Arrow's own memory is read-only, which torch takes no tensor on."""
    if array.null_count:
        raise InputError(
            f"{column} holds {array.null_count} nulls {_where(batch, 0)} or after: preprocess again"
        )
    return np.array(array.to_numpy(zero_copy_only=False), dtype=dtype)


def _refuse(batch: pa.RecordBatch, bad: npt.NDArray[np.bool_], describe: Callable[[int], str]) -> None:
    """Raises InputError with the first group that is `bad`, if any."""
    if bad.any():
        group = int(np.argmax(bad))
        raise InputError(
            f"{describe(group)}, {_where(batch, group)}: the examples are damaged, preprocess again"
        )


def _where(batch: pa.RecordBatch, group: int) -> str:
    return f"in group {batch.column('group_key')[group].as_py()!r}"
