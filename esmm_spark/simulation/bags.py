"""Multi-valued fields as flat arrays: each token's owner, its id and how often it was counted."""

from dataclasses import dataclass

import numpy as np

from esmm_spark.runtime.arrays import Int64s

# Ids lie below this, so that owner * _ID_SPAN + id is one sortable key.
_ID_SPAN = 1 << 40


@dataclass(frozen=True)
class IdBags:
    """Tokens of one field, sorted by owner.

    Attributes:
        owner: [T] the context or impression in [0, num_owners) that each token belongs to, ascending.
        id: [T].
        count: [T] what the weight ln(1 + count) is made of; 0 where the field has weight 1.
        num_owners: contexts or impressions, also those without a token.
    """

    owner: Int64s
    id: Int64s
    count: Int64s
    num_owners: int

    @property
    def lengths(self) -> Int64s:
        """Tokens of each owner [num_owners]."""
        return np.bincount(self.owner, minlength=self.num_owners).astype(np.int64)

    def count_of(self, owner: Int64s, identifier: Int64s) -> Int64s:
        """Returns the count of each pair [Q] of owner and id, 0 where the owner has no such token.

        Needs bags whose ids ascend within each owner, as `counted` makes them.
        """
        keys = self.owner * _ID_SPAN + self.id
        queries = owner * _ID_SPAN + identifier
        if not len(keys):
            return np.zeros(len(queries), dtype=np.int64)
        position = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
        return np.where(keys[position] == queries, self.count[position], 0)


def counted(owner: Int64s, identifier: Int64s, visits: Int64s, num_owners: int) -> IdBags:
    """Returns one token per owner and id with the sum of `visits` as its count.

    Example:
        owner [0, 0, 0, 1], id [7, 3, 7, 3], visits [1, 1, 4, 2]
        -> owner [0, 0, 1], id [3, 7, 3], count [1, 5, 2].
    """
    keys = owner * _ID_SPAN + identifier
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    counts = np.add.reduceat(visits[order], first) if len(first) else visits[:0]
    unique = ordered[first]
    return IdBags(unique // _ID_SPAN, unique % _ID_SPAN, counts, num_owners)


def single(identifier: Int64s) -> IdBags:
    """Returns bags of at most one token of weight 1: the ids [n] that aren't negative."""
    owner = np.flatnonzero(identifier >= 0)
    return IdBags(owner, identifier[owner], np.zeros(len(owner), dtype=np.int64), len(identifier))


def within(owner: Int64s, lengths: Int64s) -> Int64s:
    """Returns the position of each token [T] among its owner's, from 0.

    Args:
        owner: [T] each owner as often as its length says, ascending.
        lengths: [num_owners].
    """
    return np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
