"""Which rank or shard owns which row: row r belongs to rank r % num_ranks, at local index r // num_ranks.

Pure arithmetic, plus the reader of rows that lie in several shards.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Rows gathered at a time when rows move from one number of shards to another: 48 MiB at dim 12.
_CHUNK_ROWS = 1 << 20


def num_local_rows(num_rows: int, rank: int, num_ranks: int) -> int:
    """Returns how many of `num_rows` rows rank `rank` of `num_ranks` owns.

    Example: of 10 rows over 4 ranks, rank 1 owns rows 1, 5 and 9: `num_local_rows(10, 1, 4) == 3`.
    """
    return (num_rows - rank + num_ranks - 1) // num_ranks


class ShardedRows:
    """Rows spread over shards, read by their global row: a memory map stays one.

    Args:
        shards: shard s holds rows s, s + S, s + 2 S, ... of S shards; [rows of the shard, dim] or [rows of
            the shard].
    """

    def __init__(self, shards: Sequence[npt.NDArray[np.float32]]) -> None:
        self.shards = list(shards)
        self.num_rows = sum(len(shard) for shard in self.shards)
        expected = [num_local_rows(self.num_rows, s, len(self.shards)) for s in range(len(self.shards))]
        assert [len(shard) for shard in self.shards] == expected, (self.num_rows, expected)

    def gather(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """Returns a copy of the given rows, [U, dim] (or [U]) for rows [U] in 0 <= row < num_rows."""
        num_shards = len(self.shards)
        if num_shards == 1:
            return np.take(self.shards[0], rows, axis=0)
        result = np.empty((len(rows), *self.shards[0].shape[1:]), np.float32)
        owners = rows % num_shards
        for index, shard in enumerate(self.shards):
            mine = owners == index
            result[mine] = shard[rows[mine] // num_shards]
        return result

    def of_rank(self, rank: int, num_ranks: int) -> npt.NDArray[np.float32]:
        """Returns the rows that `rank` of `num_ranks` owns, in local order; no copy if they are a shard."""
        if num_ranks == len(self.shards):
            return self.shards[rank]
        count = num_local_rows(self.num_rows, rank, num_ranks)
        result = np.empty((count, *self.shards[0].shape[1:]), np.float32)
        for start in range(0, count, _CHUNK_ROWS):
            local = np.arange(start, min(start + _CHUNK_ROWS, count))
            result[local[0] : local[-1] + 1] = self.gather(rank + local * num_ranks)
        return result
