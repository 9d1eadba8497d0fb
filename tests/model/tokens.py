"""The tokens of a batch, as look-ups take them, without what the feed knows beside them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """G groups, N impressions; shapes as in `feed.batch.Batch`."""

    context_rows: Tensor
    context_weights: Tensor
    context_lengths: Tensor
    impression_rows: Tensor
    impression_weights: Tensor
    impression_lengths: Tensor
    group_sizes: Tensor
