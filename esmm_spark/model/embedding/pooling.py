"""Pooled look-ups in plain torch: per bag the sum of weight x row."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bag_offsets(lengths: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns [B + 1] offsets of bags with `lengths` [B]. Example: 2, 0, 3 give 0, 2, 2, 5."""
    offsets = torch.zeros(lengths.numel() + 1, dtype=dtype, device=lengths.device)
    torch.cumsum(lengths, 0, dtype=dtype, out=offsets[1:])
    return offsets


def pool_rows(table: Tensor, indices: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """Returns [B, D]: per bag the sum of weight x row of `table`; zeros for an empty bag.

    Args:
        table: [U, D] float32.
        indices: [T] int, 0 <= index < U.
        weights: [T] float32.
        offsets: [B + 1] int, the first 0 and the last T.

    Raises:
        RuntimeError: an index is out of range.
    """
    return F.embedding_bag(
        indices,
        table,
        offsets.to(indices.dtype),
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )
