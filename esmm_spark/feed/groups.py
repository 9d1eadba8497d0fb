"""A row group of the examples as flat numpy arrays, and its slices by impression: for training and scoring.

Shapes: G groups, N impressions, K tasks, Fc and Fi context and impression fields, B bags (G * Fc or N * Fi).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.schemas.columns import EXAMPLE_COLUMNS
from esmm_spark.feed.bags import (
    Bags,
    IntArray,
    Tokens,
    any_of,
    list_starts,
    read_bags,
    refuse,
    size_of,
    starts_of,
)

# Ids are texts, and most of what a row group takes to read: training has no use for them.
TRAINING_COLUMNS = tuple(name for name in EXAMPLE_COLUMNS if name != "impression_id")
SCORING_COLUMNS = EXAMPLE_COLUMNS
# The tasks in their order, each with the place of its parent, whose label must be 1 where its own is.
_TASKS = (("click", None), ("conversion", 0))
NUM_TASKS = len(_TASKS)
UNKNOWN_LABEL = -1

Labels = npt.NDArray[np.int8]


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
        context: g * Fc bags.
        impression: (stop - start) * Fi bags.
    """

    start: int
    stop: int
    keys: pa.Array
    hashes: IntArray
    starts_group: npt.NDArray[np.bool_]
    group_sizes: IntArray
    labels: Labels
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
        context: G * Fc bags.
        impression: N * Fi bags.
    """

    keys: pa.Array
    hashes: IntArray
    starts: IntArray
    ids: pa.Array | None
    labels: Labels
    context: Bags
    impression: Bags

    @property
    def num_impressions(self) -> int:
        """N."""
        return int(self.starts[-1])

    @property
    def sizes(self) -> IntArray:
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


def read_groups(table: pa.Table, spec: FeatureSpec) -> Groups:
    """Returns the groups of an Arrow table, one row per group.

    Args:
        table: a row group of the examples, with the columns SCORING_COLUMNS, or TRAINING_COLUMNS, whose
            impressions must all have labels.
        spec: the feature spec that it was hashed with.

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
    ids = columns.column("impression_id").flatten() if "impression_id" in columns.schema.names else None
    starts = list_starts(columns, _TASKS[0][0] if ids is None else "impression_id")
    labels = _read_labels(columns, starts, required=ids is None)
    context, impression = read_bags(columns, starts, spec)
    return Groups(
        keys=columns.column("group_key"),
        hashes=columns.column("group_hash").to_numpy(zero_copy_only=False),
        starts=starts,
        ids=ids,
        labels=labels,
        context=context,
        impression=impression,
    )


def _read_labels(columns: pa.RecordBatch, starts: IntArray, required: bool) -> Labels:
    """Returns [K, N] the labels of all tasks, UNKNOWN_LABEL where a group or an impression has none."""
    labels = np.empty((len(_TASKS), int(starts[-1])), np.int8)
    for own, (name, parent) in zip(labels, _TASKS, strict=True):
        own[:] = _read_labels_of_task(columns, name, starts, required)
        if parent is not None:
            wrong = (own == 1) & (labels[parent] != 1)
            refuse(columns, any_of(wrong, starts), lambda g: "labels that are no clicks and conversions")
    return labels


def _read_labels_of_task(columns: pa.RecordBatch, name: str, starts: IntArray, required: bool) -> Labels:
    """Returns [N] the labels of the task `name`."""
    lists = columns.column(name)
    has_list = lists.is_valid().to_numpy(zero_copy_only=False)
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    refuse(
        columns,
        has_list & (lengths != np.diff(starts)),
        lambda g: f"{lengths[g]} x {name}, {size_of(starts, g)} impressions",
    )
    values = lists.flatten()
    labels: Labels = values.fill_null(0).to_numpy(zero_copy_only=False)
    # As bytes without a sign, negative numbers are above 1, too.
    wrong = any_of(labels.view(np.uint8) > 1, starts_of(lengths))
    refuse(columns, wrong, lambda g: f"a {name} that is neither 0 nor 1")
    if not lists.null_count and not values.null_count:
        return labels
    found = np.full(int(starts[-1]), UNKNOWN_LABEL, np.int8)
    is_null = values.is_null().to_numpy(zero_copy_only=False)
    found[np.repeat(has_list, np.diff(starts))] = np.where(is_null, UNKNOWN_LABEL, labels)
    if required:
        unknown = any_of(found == UNKNOWN_LABEL, starts)
        refuse(columns, unknown, lambda g: f"an impression whose {name} is unknown: train on labelled ones")
    return found
