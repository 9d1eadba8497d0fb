"""The embedding of a finished model: look-ups alone, on memory-mapped rows."""

import torch
from torch import Tensor

from esmm_spark.model.embedding.pooling import bag_offsets, pool_rows
from esmm_spark.model.embedding.sharding import ShardedRows


class ServingEmbedding:
    """Pooled look-ups in the rows of a model, on the CPU, without an optimizer and without FBGEMM.

    Args:
        rows: `directory.open_rows(...)`.
    """

    def __init__(self, rows: ShardedRows) -> None:
        self.num_rows = rows.num_rows
        self._rows = rows
        self._whole = torch.from_numpy(rows.shards[0]) if len(rows.shards) == 1 else None

    def pool(self, rows: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
        """Returns [B, D] float32: per bag the sum of weight x row; zeros for an empty bag.

        Args:
            rows: [T] int32 or int64, 0 <= row < num_rows.
            weights: [T] float32.
            lengths: [B] int, tokens of each bag, with sum T.

        Raises:
            RuntimeError: a row is out of range.
        """
        with torch.no_grad():
            offsets = bag_offsets(lengths, rows.dtype)
            if self._whole is not None:
                return pool_rows(self._whole, rows, weights, offsets)
            distinct, positions = torch.unique(rows, return_inverse=True)
            # Sorted. numpy would take row -1 for the last one of a shard.
            if len(distinct) and not 0 <= int(distinct[0]) <= int(distinct[-1]) < self.num_rows:
                raise RuntimeError(
                    f"rows {int(distinct[0])} to {int(distinct[-1])} are not all in [0, {self.num_rows})"
                )
            return pool_rows(
                torch.from_numpy(self._rows.gather(distinct.numpy())), positions, weights, offsets
            )

    __call__ = pool
