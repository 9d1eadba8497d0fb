"""Partitioning of a simulation: which groups, impressions and sample ids each part file holds.

Train and test have half of the groups each, as in Ali-CCP (the odd one is train's); users and items are
the same in both. A split is cut into blocks (what is drawn at once) and those into parts (what one Spark task
writes). Nothing here depends on the number of cores.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from esmm_spark.simulation.world import GROUPS_PER_BLOCK, World

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

# 4,096 groups, 240k impressions of the aliccp preset: about 60 MB of skeleton and 50 MB of common features.
BLOCKS_PER_PART = 16


@dataclass(frozen=True)
class Part:
    """One part of a split: a file each of skeleton, common features and truth.

    Attributes:
        split: "train" or "test".
        number: of the part in its split, from 0.
        first_group: the number in its split of the part's first group.
        num_groups: groups of the part.
        groups_of_split: groups of all the split's parts.
        first_sample_id: of the part's first impression; ids are consecutive over parts and splits, from 1.
        num_impressions: impressions of the part.
    """

    split: Split
    number: int
    first_group: int
    num_groups: int
    groups_of_split: int
    first_sample_id: int
    num_impressions: int

    @property
    def stream(self) -> int:
        """The stream of blocks that the split is drawn from."""
        return SPLITS.index(self.split)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The part's blocks: (number in the split, groups); all but the split's last are full."""
        return _blocks(self.first_group, self.num_groups)


def groups_of(split: Split, num_groups: int) -> int:
    """Returns how many of `num_groups` groups are the split's: half, the odd one being train's."""
    return (num_groups + 1) // 2 if split == "train" else num_groups // 2


def plan_parts(world: World, num_groups: int) -> list[Part]:
    """Returns the parts of both splits, train first. Takes 50 microseconds per block.

    Args:
        world: what will be drawn from; only sizes are drawn here.
        num_groups: groups of both splits together, at least 2.
    """
    parts: list[Part] = []
    next_sample_id = 1
    for split in SPLITS:
        groups_of_split = groups_of(split, num_groups)
        groups_per_part = BLOCKS_PER_PART * GROUPS_PER_BLOCK
        for number, first_group in enumerate(range(0, groups_of_split, groups_per_part)):
            size = min(groups_per_part, groups_of_split - first_group)
            num_impressions = sum(
                world.num_impressions(SPLITS.index(split), block, groups)
                for block, groups in _blocks(first_group, size)
            )
            parts.append(
                Part(split, number, first_group, size, groups_of_split, next_sample_id, num_impressions)
            )
            next_sample_id += num_impressions
    return parts


def _blocks(first_group: int, num_groups: int) -> list[tuple[int, int]]:
    starts = np.arange(first_group, first_group + num_groups, GROUPS_PER_BLOCK).tolist()
    end = first_group + num_groups
    return [(start // GROUPS_PER_BLOCK, min(GROUPS_PER_BLOCK, end - start)) for start in starts]
