"""An embedding table on the CPU, with its optimizer's step fused into the backward pass.

FBGEMM's backward on the CPU uses one thread for one table and was half of a training step
(docs/decisions/008); this does the same sums and steps in a tenth of the time.

Shapes: B bags, T tokens, D dim, L rows.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmm_spark.model.embedding.optimizer_kernels import row_step
from esmm_spark.model.embedding.row_kernels import BagTokens, columns_of, pool, slots_for
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.embedding.step_kernels import Partitions, RowSums, SortedTokens, sum_and_step_rows
from esmm_spark.model.kernels.compilation import arrays_of, num_threads

# Partitions of a step at least; each one's sums and hash table should fit a core's cache.
_LEAST_PARTITIONS = 16


class CpuTable:
    """L rows and their optimizer's state.

    Args:
        num_rows: L.
        dim: D.
        optimizer: steps them.

    Attributes:
        rows: [L, D] float32.
    """

    def __init__(self, num_rows: int, dim: int, optimizer: RowOptimizer) -> None:
        # A row's state lies behind it, so that its step finds it in the same cache line or the next.
        self._whole = _zeros(num_rows, dim + optimizer.state_width(dim))
        self.rows = self._whole[:, :dim]
        self._optimizer, self._next_step = optimizer, row_step(optimizer, 1)
        self._columns = columns_of(dim)
        self._scratch = _Scratch(dim)
        # What makes autograd call the backward pass, as the rows themselves are no leaf of it.
        self._anchor = torch.zeros(0, requires_grad=True)

    def pooled(self, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Returns [B, D]: per bag the sum of weight x row; its `backward` steps the rows.

        Args:
            indices: [T] int32 or int64, 0 <= index < L: not checked here.
            offsets: [B + 1] int.
            weights: [T] float32, constants.
        """
        return cast(Tensor, _Pooled.apply(self._anchor, self, indices, offsets, weights))  # type: ignore[no-untyped-call]

    def begin_step(self, number: int, learning_rate: float) -> None:
        """Sets the number, counted from 1, and the learning rate of the next step."""
        self._next_step = row_step(self._optimizer._replace(learning_rate=learning_rate), number)

    def state(self) -> dict[str, Tensor]:
        """Returns each row's state by name, [L] or [L, D] float32: views."""
        dim = self.rows.shape[1]
        shapes = self._optimizer.state_shapes(dim)
        parts = self._whole[:, dim:].split([math.prod(shape) for shape in shapes.values()], dim=1)
        return {
            name: part.view(len(part), *shape)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Overwrites the state with what `state` once returned."""
        for name, own in self.state().items():
            own.copy_(state[name])

    def _pool(self, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        out = torch.empty(len(offsets) - 1, self.rows.shape[1])
        table, pooled, *tokens = arrays_of(self._whole, out, indices, weights, offsets)
        pool(self._columns, table, BagTokens(*tokens), num_threads(), pooled)
        return out

    def _step(self, indices: Tensor, offsets: Tensor, weights: Tensor, gradient: Tensor) -> None:
        table, pooled_gradient, *tokens = arrays_of(self._whole, gradient, indices, weights, offsets)
        scratch = self._scratch.arrays(len(indices), tokens[0].dtype, num_threads())
        scratch[0].counter[0] = 0
        sum_and_step_rows(
            self._columns, table, BagTokens(*tokens), pooled_gradient, self._next_step, *scratch
        )


class _Scratch:
    """The scratch arrays of a step, kept for the next: allocating them anew costs as much as the sums."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._arrays: tuple[Partitions, SortedTokens, RowSums] | None = None

    def arrays(
        self, num_tokens: int, dtype: np.dtype[Any], threads: int
    ) -> tuple[Partitions, SortedTokens, RowSums]:
        """Returns scratch for at least `num_tokens`."""
        held = self._arrays
        if (
            held is None
            or len(held[2].keys) != threads
            or len(held[1].rows) < num_tokens
            or held[1].rows.dtype != dtype
        ):
            num_slots = slots_for(num_tokens)
            most_tokens = num_slots - 1
            held = self._arrays = (
                Partitions(
                    ends=np.empty((2 * threads, max(_LEAST_PARTITIONS, 4 * threads)), np.int64),
                    counter=np.empty(1, np.int64),
                ),
                SortedTokens(
                    rows=np.empty(most_tokens, dtype),
                    weights=np.empty(most_tokens, np.float32),
                    bags=np.empty(most_tokens, np.int32),
                ),
                RowSums(
                    keys=np.empty((threads, num_slots), dtype),
                    places=np.empty((threads, num_slots), np.int32),
                    rows=np.empty((threads, most_tokens), dtype),
                    sums=np.empty((threads, most_tokens, self._dim), np.float32),
                ),
            )
        return held


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, table: CpuTable, indices: Tensor, offsets: Tensor, weights: Tensor
    ) -> Tensor:
        ctx.table = table
        ctx.save_for_backward(indices, offsets, weights)
        return table._pool(indices, offsets, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        ctx.table._step(*ctx.saved_tensors, gradient)
        return (None,) * 5


def _zeros(*shape: int) -> Tensor:
    """Returns zeros in large pages of memory, where the machine has them: rows are looked up at random.

    numpy asks for them where it is to leave memory as it is; torch does not.
    """
    array = np.empty(shape, np.float32)
    array.fill(0)
    return torch.from_numpy(array)
