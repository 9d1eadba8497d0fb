"""Deduplicates a batch's rows per owner rank, and pools bags from the fetched rows.

Shapes: B bags, T tokens, U distinct rows, D dim, R ranks.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmm_spark.model.embedding.distinct_kernels import RowNumbers, number_rows, sort_by_owner
from esmm_spark.model.embedding.pooling import pool_rows
from esmm_spark.model.embedding.row_kernels import BagTokens, columns_of, pool, pool_backward, slots_for
from esmm_spark.model.kernels.compilation import arrays_of, num_threads


@dataclass(frozen=True)
class Distinct:
    """The distinct rows of a batch, by owner rank: what to request of each rank.

    Attributes:
        local_rows: [U] int, the rows as their owners number them: first those of rank 0, then of rank 1, ...
        splits: [R] int32 on the CPU, the number of rows of each rank, with sum U.
        positions: [T] int, the place in `local_rows` of each token's row.
    """

    local_rows: Tensor
    splits: Tensor
    positions: Tensor

    def pool(self, fetched: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Returns [B, D]: per bag the sum of weight x row, with a gradient for the rows.

        Args:
            fetched: [U, D] float32, the rows in the order of `local_rows`.
            offsets: [B + 1] int.
            weights: [T] float32, constants.
        """
        if fetched.device.type != "cpu":
            return pool_rows(fetched, self.positions, weights, offsets)
        return cast(Tensor, _PoolFetched.apply(fetched, self.positions, offsets, weights))  # type: ignore[no-untyped-call]


def distinct_by_owner(rows: Tensor, num_ranks: int) -> Distinct:
    """Returns the distinct ones of `rows`, [T] int, none negative; row r belongs to rank r % num_ranks."""
    if rows.device.type != "cpu":
        return _by_sorting(rows, num_ranks)
    (values,) = arrays_of(rows)
    num_partitions, num_tokens = num_threads(), len(values)
    num_slots = slots_for(num_tokens)
    keys = np.empty((num_partitions, num_slots), values.dtype)
    places = np.empty((num_partitions, num_slots), np.int32)
    numbers = RowNumbers(
        rows=np.empty((num_partitions, num_tokens), values.dtype),
        counts=np.empty(num_partitions, np.int64),
        partitions=np.empty(num_tokens, np.int32),
        positions=np.empty(num_tokens, np.int32),
    )
    number_rows(values, keys, places, numbers)
    local_rows = np.empty(int(numbers.counts.sum()), values.dtype)
    splits, next_place = np.empty(num_ranks, np.int32), np.empty(num_ranks, np.int64)
    sort_by_owner(numbers, places, next_place, splits, local_rows)
    return Distinct(
        torch.from_numpy(local_rows), torch.from_numpy(splits), torch.from_numpy(numbers.positions)
    )


def _by_sorting(rows: Tensor, num_ranks: int) -> Distinct:
    distinct, inverse = torch.unique(rows, return_inverse=True)
    owners = distinct % num_ranks
    order = torch.argsort(owners, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel(), device=rows.device)
    return Distinct(
        local_rows=distinct[order] // num_ranks,
        splits=torch.bincount(owners, minlength=num_ranks).to("cpu", torch.int32),
        positions=place[inverse],
    )


class _PoolFetched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fetched: Tensor, positions: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(positions, offsets, weights)
        ctx.num_rows = len(fetched)
        out = torch.empty(len(offsets) - 1, fetched.shape[1])
        table, pooled, *tokens = arrays_of(fetched, out, positions, weights, offsets)
        pool(columns_of(fetched.shape[1]), table, BagTokens(*tokens), num_threads(), pooled)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        positions, offsets, weights = ctx.saved_tensors
        out = torch.empty(ctx.num_rows, gradient.shape[1])
        pooled_gradient, row_gradient, *tokens = arrays_of(gradient, out, positions, weights, offsets)
        columns = columns_of(gradient.shape[1])
        pool_backward(columns, BagTokens(*tokens), pooled_gradient, num_threads(), row_gradient)
        return out, None, None, None
