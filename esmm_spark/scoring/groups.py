"""Arrow batches of impression groups as flat numpy arrays, and their slices of a bounded size.

The lists are read and checked by the feed's own code. Legend: G groups, N impressions, Fc and Fi context and
impression fields, T tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.schemas.columns import EXAMPLE_COLUMNS
from esmm_spark.feed.bags import Bags, DamagedGroupError, IntArray, cut, read_bags, refuse

# What scoring reads of the examples; labels go through to the scores.
GROUP_COLUMNS = tuple(name for name in EXAMPLE_COLUMNS if name != "group_hash")


@dataclass(frozen=True)
class Slice:
    """At most `batch_size` impressions and the contexts of their groups.

    Attributes:
        start: first impression, counted from the Arrow batch's first.
        stop: the impression after the last.
        group_sizes: [g] int64, impressions of each group that lie in the slice.
        context: rows, weights, lengths of g * Fc bags, which may be read-only.
        impression: rows, weights, lengths of (stop - start) * Fi bags.
    """

    start: int
    stop: int
    group_sizes: IntArray
    context: tuple[npt.NDArray[Any], npt.NDArray[np.float32], npt.NDArray[np.int32]]
    impression: tuple[npt.NDArray[Any], npt.NDArray[np.float32], npt.NDArray[np.int32]]


@dataclass(frozen=True)
class Groups:
    """An Arrow batch of G groups with N impressions.

    Attributes:
        starts: [G + 1] int64, the first impression of each group; a group may have none.
        context: G * Fc bags.
        impression: N * Fi bags.
    """

    starts: IntArray
    context: Bags
    impression: Bags

    @property
    def sizes(self) -> IntArray:
        """[G] int64, impressions of each group."""
        return np.diff(self.starts)

    @property
    def num_impressions(self) -> int:
        """N."""
        return int(self.starts[-1])

    def slices(self, batch_size: int) -> Iterator[Slice]:
        """Yields slices of at most `batch_size` impressions, of equal size but for one impression.

        A group may be cut; its context is then in both slices. Two groups of 3 and 2 impressions in slices of
        2 have group sizes [1], [2], [2]: 5 impressions make 3 slices, which begin at 0, 1 and 3.
        """
        num_impressions = self.num_impressions
        num_slices = -(-num_impressions // batch_size)
        for index in range(num_slices):
            start = index * num_impressions // num_slices
            stop = (index + 1) * num_impressions // num_slices
            first, last, group_sizes = cut(self.starts, start, stop)
            yield Slice(
                start, stop, group_sizes, self.context.part(first, last), self.impression.part(start, stop)
            )


def read_groups(batch: pa.RecordBatch, spec: FeatureSpec) -> Groups:
    """Returns the groups of an Arrow batch with the columns GROUP_COLUMNS.

    Args:
        batch: one row per group.
        spec: the feature spec that the rows were hashed with.

    Raises:
        InputError: the lists of a group don't fit together, it has no key, or a row lies outside of the
            arena. Such a group would otherwise be scored with another group's tokens, or read beyond the
            arena's memory.
    """
    missing = batch.column("group_key").null_count
    if missing:
        raise InputError(f"{missing} groups have no group_key: the examples are damaged, preprocess again")
    sizes = _sizes(batch, "impression_id")
    starts = np.concatenate(([0], np.cumsum(sizes)))
    with _remedy():
        context, impression = read_bags(batch, starts, spec)
    return Groups(starts, context, impression)


def read_labels(batch: pa.RecordBatch, column: str, sizes: IntArray) -> pa.Array:
    """Returns [N] int8: the labels of all impressions, null where a group or an impression has none.

    Args:
        batch: one row per group.
        column: "click" or "conversion".
        sizes: [G], impressions of each group.

    Raises:
        InputError: a group has another number of labels than of impressions.
    """
    lengths = _sizes(batch, column)
    known = batch.column(column).is_valid().to_numpy(zero_copy_only=False)
    with _remedy():
        refuse(
            batch, known & (lengths != sizes), lambda g: f"{lengths[g]} x {column}, {sizes[g]} impressions"
        )
    values = batch.column(column).flatten().cast(pa.int8())
    if known.all():
        return values
    has_label = np.repeat(known, sizes)
    # The place of each impression's label in `values`, which holds nothing for a group without labels.
    places = np.cumsum(has_label) - 1
    return values.take(pa.array(places, mask=~has_label))


def _sizes(batch: pa.RecordBatch, column: str) -> IntArray:
    """Returns [G] int64, how many values each list holds; a null list has none."""
    lengths = batch.column(column).value_lengths().fill_null(0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)


@contextmanager
def _remedy() -> Iterator[None]:
    """Says of a damaged group what to do: its file is not known here."""
    try:
        yield
    except DamagedGroupError as error:
        problem = f"{error.problem}, in group {error.key!r}"
        raise InputError(f"{problem}: the examples are damaged, preprocess again") from error
    except InputError as error:
        raise InputError(f"{error}: the examples are damaged, preprocess again") from error
