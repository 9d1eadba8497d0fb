"""A row group of the examples as flat numpy arrays, and its slices by impression.

Shapes: G groups, N impressions, Fc and Fi context and impression fields, B bags (G * Fc or N * Fi).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.schemas.columns import EXAMPLE_COLUMNS
from esmm_spark.feed.bags import Bags, IntArray, any_of, cut, flat_list, read_bags, refuse, size_of

# What training reads of the examples.
COLUMNS = tuple(name for name in EXAMPLE_COLUMNS if name != "impression_id")


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
        first, last, group_sizes = cut(self.starts, start, stop)
        return Part(
            keys=self.keys.slice(first, last - first),
            hashes=self.hashes[first:last],
            starts_group=self.starts[first:last] >= start,
            group_sizes=group_sizes,
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
    click, starts = flat_list(columns, "click", np.int8)
    conversion, conversion_starts = flat_list(columns, "conversion", np.int8)
    refuse(
        columns,
        np.diff(starts) != np.diff(conversion_starts),
        lambda g: f"{size_of(starts, g)} x click but {size_of(conversion_starts, g)} x conversion",
    )
    wrong = (click < 0) | (click > 1) | (conversion < 0) | (conversion > click)
    refuse(columns, any_of(wrong, starts), lambda g: "labels that are no clicks and conversions")
    context, impression = read_bags(columns, starts, spec)
    return Groups(
        keys=columns.column("group_key"),
        hashes=columns.column("group_hash").to_numpy(zero_copy_only=False),
        starts=starts,
        click=click,
        conversion=conversion,
        context=context,
        impression=impression,
    )
