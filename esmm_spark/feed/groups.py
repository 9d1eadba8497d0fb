"""A row group of the examples as flat numpy arrays, and its slices by impression: for training and scoring.

Shapes: G groups, N impressions, K tasks, Fc and Fi context and impression fields, B bags (G * Fc or N * Fi).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import DEFAULT_COLUMNS, ImpressionColumns
from esmm_spark.contracts.schemas.columns import Column, example_columns
from esmm_spark.contracts.tasks import NO_PARENT
from esmm_spark.feed.bags import Bags, Tokens, any_of, list_starts, read_bags, refuse, size_of
from esmm_spark.runtime.arrays import Int8s, Int64s

UNKNOWN_LABEL = -1


@dataclass(frozen=True)
class Layout:
    """What the examples of a dataset hold, and what of it is read.

    Attributes:
        spec: the feature spec that they were hashed with.
        brought: the labels that they have, and those of their carried columns that are read.
        unknown_labels: whether training may meet unknown labels; scoring may.
        for_scoring: whether ids are read, and labels may be unknown. Training has no use for ids, which are
            texts, and most of what a row group takes to read.
    """

    spec: FeatureSpec
    brought: ImpressionColumns = DEFAULT_COLUMNS
    unknown_labels: bool = False
    for_scoring: bool = False

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that are read, in their order."""
        columns = example_columns(self.spec.row_type, self.brought.tasks.names, self.brought.carry)
        return tuple(column for column in columns if self.for_scoring or column.name != "impression_id")


@dataclass(frozen=True)
class GroupSlice:
    """Impressions that follow each other, and the contexts of their groups: views of a row group's arrays.

    Attributes:
        start: the first impression, counted from the row group's first.
        stop: the impression after the last.
        keys: [g] Arrow strings.
        hashes: [g] int64.
        starts_group: [g] bool, whether the slice holds the group's first impression.
        group_sizes: [g] int64, impressions of each group that lie in the slice.
        labels: [K, stop - start] int8.
        carried: column -> [stop - start], as in `Groups`.
        context: g * Fc bags.
        impression: (stop - start) * Fi bags.
    """

    start: int
    stop: int
    keys: pa.Array
    hashes: Int64s
    starts_group: npt.NDArray[np.bool_]
    group_sizes: Int64s
    labels: Int8s
    carried: Mapping[str, pa.Array]
    context: Tokens
    impression: Tokens


@dataclass(frozen=True)
class Groups:
    """G groups with N impressions.

    Attributes:
        keys: [G] Arrow strings.
        hashes: [G] int64 group_hash.
        starts: [G + 1] int64, the first impression of each group.
        ids: [N] Arrow strings; None where they weren't read.
        labels: [K, N] int8, 0 or 1, or UNKNOWN_LABEL.
        carried: carried column -> [N] Arrow doubles, bigints or strings, null where missing.
        context: G * Fc bags.
        impression: N * Fi bags.
    """

    keys: pa.Array
    hashes: Int64s
    starts: Int64s
    ids: pa.Array | None
    labels: Int8s
    carried: Mapping[str, pa.Array]
    context: Bags
    impression: Bags

    @property
    def num_impressions(self) -> int:
        """N."""
        return int(self.starts[-1])

    @property
    def sizes(self) -> Int64s:
        """[G] int64, impressions of each group."""
        return np.diff(self.starts)

    def slice(self, start: int, stop: int) -> GroupSlice:
        """Returns the impressions [start, stop), start < stop, and the contexts of their groups.

        A group may be cut; its context is then in both slices. Worked example: groups of 3 and 2 impressions,
        slice [2, 4): sizes 1, 1, and `starts_group` says False, True.
        """
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        last = int(np.searchsorted(self.starts, stop, side="left"))
        return GroupSlice(
            start=start,
            stop=stop,
            keys=self.keys.slice(first, last - first),
            hashes=self.hashes[first:last],
            starts_group=self.starts[first:last] >= start,
            group_sizes=np.diff(np.clip(self.starts[first : last + 1], start, stop)),
            labels=self.labels[:, start:stop],
            carried={name: values.slice(start, stop - start) for name, values in self.carried.items()},
            context=self.context.slice(first, last),
            impression=self.impression.slice(start, stop),
        )

    def slices(self, batch_size: int) -> Iterator[GroupSlice]:
        """Yields slices of at most `batch_size` impressions, of equal size but for one impression.

        Two groups of 3 and 2 impressions in slices of 2 have group sizes [1], [2], [2]: 5 impressions make 3
        slices, which begin at 0, 1 and 3.
        """
        total = self.num_impressions
        num_slices = -(-total // batch_size)
        for index in range(num_slices):
            yield self.slice(index * total // num_slices, (index + 1) * total // num_slices)


def read_groups(table: pa.Table, layout: Layout) -> Groups:
    """Returns the groups of an Arrow table, one row per group.

    Args:
        table: a row group of the examples, with the columns of `layout`.
        layout: of the dataset.

    Raises:
        InputError: the lists of a group don't fit together, it has no key, a label isn't what a label may be,
            or a row lies outside of the arena. Such a group would otherwise be taken for one of another
            group's tokens, or be read beyond the arena's memory.
    """
    batch = table.combine_chunks().to_batches()
    columns = batch[0] if batch else pa.RecordBatch.from_pylist([], schema=table.schema)
    missing = columns.column("group_key").null_count
    if missing:
        raise InputError(f"group_key is missing in {missing} of {columns.num_rows} groups")
    ids = columns.column("impression_id").flatten() if layout.for_scoring else None
    tasks, carry = layout.brought
    starts = list_starts(columns, tasks.names[0] if ids is None else "impression_id")
    labels = _read_labels(columns, starts, layout)
    context, impression = read_bags(columns, starts, layout.spec)
    return Groups(
        keys=columns.column("group_key"),
        hashes=columns.column("group_hash").to_numpy(zero_copy_only=False),
        starts=starts,
        ids=ids,
        labels=labels,
        carried={name: _values_of(columns, name, starts) for name in carry},
        context=context,
        impression=impression,
    )


def _read_labels(columns: pa.RecordBatch, starts: Int64s, layout: Layout) -> Int8s:
    """Returns [K, N] the labels of all tasks, UNKNOWN_LABEL where a group or an impression has none."""
    tasks, required = layout.brought.tasks, not (layout.for_scoring or layout.unknown_labels)
    labels = np.empty((len(tasks.names), int(starts[-1])), np.int8)
    for own, name, parent in zip(labels, tasks.names, tasks.parents, strict=True):
        own[:] = _read_labels_of_task(columns, name, starts, required)
        if parent != NO_PARENT:
            orphans = any_of((own == 1) & (labels[parent] != 1), starts)
            problem = f"a {name} without a {tasks.names[parent]}"
            refuse(columns, orphans, _told(problem))
    return labels


def _told(problem: str) -> Callable[[int], str]:
    """Returns a function of a group that gives this message for all of them, as `refuse` takes it."""
    return lambda group: problem


def _read_labels_of_task(columns: pa.RecordBatch, name: str, starts: Int64s, required: bool) -> Int8s:
    """Returns [N] the labels of the task `name`."""
    values = _values_of(columns, name, starts)
    labels: Int8s = values.fill_null(0).to_numpy(zero_copy_only=False)
    # As bytes without a sign, negative numbers are above 1, too.
    wrong = any_of(labels.view(np.uint8) > 1, starts)
    refuse(columns, wrong, lambda g: f"a {name} that is neither 0 nor 1")
    if not values.null_count:
        return labels
    is_unknown = values.is_null().to_numpy(zero_copy_only=False)
    if required:
        problem = f"an impression whose {name} is unknown: train on labelled ones"
        refuse(columns, any_of(is_unknown, starts), _told(problem))
    return np.where(is_unknown, np.int8(UNKNOWN_LABEL), labels)


def _values_of(columns: pa.RecordBatch, name: str, starts: Int64s) -> pa.Array:
    """Returns [N] a column's value of each impression, null where it or the group's list is missing."""
    lists = columns.column(name)
    has_list = lists.is_valid().to_numpy(zero_copy_only=False)
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    refuse(
        columns,
        has_list & (lengths != np.diff(starts)),
        lambda g: f"{lengths[g]} x {name}, {size_of(starts, g)} impressions",
    )
    values = lists.flatten()
    if not lists.null_count:
        return values
    is_listed = np.repeat(has_list, np.diff(starts))
    # Of those that aren't listed, null instead of an index takes null.
    return values.take(pa.array(np.cumsum(is_listed) - 1, mask=~is_listed))
