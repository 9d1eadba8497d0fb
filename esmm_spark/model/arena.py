"""The embedding arena: the rows of all tables, sharded over ranks, with FBGEMM's fused row-wise Adagrad.

Row r belongs to rank r % num_ranks, at local index r // num_ranks. No dense gradient of the rows is ever
made: the backward pass sums the gradients of each distinct row of the batch and steps that row at once.

    state_r += mean_d(g_rd ^ 2)
    row_r   -= learning_rate * g_r / (sqrt(state_r) + eps)

Shapes: B bags, T tokens, D dim, P padded dim (a multiple of 4, which FBGEMM wants), L local rows.
"""

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from esmm_spark.model.exchange import Exchange
from esmm_spark.model.initial_rows import fill_uniform
from esmm_spark.model.pooling import bag_offsets, pool_rows
from esmm_spark.model.sharding import num_local_rows


class EmbeddingArena(nn.Module):
    """All embedding rows that this rank owns, and the way to everyone else's.

    The gradient that arrives at the output must already hold the global scale (each rank divides its summed
    loss by the impressions of the global batch): gradients of one row from several ranks are summed, not
    averaged. The step happens inside `backward()`, so no optimizer may hold `arena.parameters()`.

    With more than one rank, **every rank must call `forward`, and `backward` on what depends on its output,
    in every step**, also with no rows at all: the others wait for it. Under `torch.no_grad()` no rank may
    call `backward`.

    Args:
        num_rows: rows of the whole arena, over all ranks.
        dim: D, any number; rows are padded to a multiple of 4 in memory, and the optimizer is set so that its
            steps are those of unpadded rows.
        rank: this process.
        num_ranks: 1, or `hvd.size()` after `hvd.init()`.
        learning_rate: of row-wise Adagrad.
        eps: of row-wise Adagrad.
        init_range: rows start uniform in [-init_range, init_range), by (seed, row, column) alone.
        seed: of the initial rows.
        device: where the rows live, `cpu` or `cuda`.

    Attributes:
        exchanged_bytes: bytes sent to other ranks since the last `forward` began; 0 with one rank.

    Source: Duchi et al., "Adaptive Subgradient Methods", JMLR 2011; row-wise: Gupta et al. 2014 and
        fbgemm_gpu's `EXACT_ROWWISE_ADAGRAD`.
    """

    def __init__(
        self,
        num_rows: int,
        dim: int,
        *,
        rank: int = 0,
        num_ranks: int = 1,
        learning_rate: float,
        eps: float,
        init_range: float,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        assert 0 <= rank < num_ranks, (rank, num_ranks)
        self.num_rows, self.dim, self.rank, self.num_ranks = num_rows, dim, rank, num_ranks
        self.num_local_rows = num_local_rows(num_rows, rank, num_ranks)
        self.device = torch.device(device)
        padded_dim = -(-dim // 4) * 4
        # FBGEMM takes the mean of g^2 over P columns, P - D of them 0: its state is D/P of the true one. With
        # s = sqrt(P/D), learning_rate g / (s sqrt(state) + eps) = (learning_rate / s) g / (sqrt(state) + eps
        # / s): exact, nothing is lost.
        self._state_scale = padded_dim / dim
        scale = math.sqrt(self._state_scale)
        # int32 halves what FBGEMM reads of the indices and sorts them faster; only an arena of 2^31 rows
        # needs more.
        self._index_dtype = torch.int32 if self.num_local_rows < 2**31 else torch.int64
        self._table = _make_table(
            max(self.num_local_rows, 1),
            padded_dim,
            learning_rate / scale,
            eps / scale,
            self.device,
            self._index_dtype,
        )
        self._constant_weights = torch.zeros(1, dtype=torch.int32, device=self.device)
        self._exchange = Exchange(num_ranks) if num_ranks > 1 else None
        fill_uniform(self.local_rows(), rank, num_ranks, init_range, seed)

    @property
    def exchanged_bytes(self) -> int:
        """Bytes that left this rank for others since the last `forward` began."""
        return self._exchange.sent_bytes if self._exchange else 0

    def forward(self, rows: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
        """Returns [B, D] float32: per bag the sum of weight x row; zeros for an empty bag.

        Args:
            rows: [T] int32 or int64 arena rows, bag by bag, 0 <= row < num_rows.
            weights: [T] float32, constants: they get no gradient.
            lengths: [B] int, tokens of each bag, with sum T.

        Raises:
            RuntimeError: a row is out of range (one rank; the others end as well, as their exchange fails).
        """
        offsets = bag_offsets(lengths, self._index_dtype)
        if self._exchange is None:
            return self._pool(rows.to(self._index_dtype), offsets, weights)
        self._exchange.sent_bytes = 0
        distinct, positions = torch.unique(rows, return_inverse=True)
        owners = distinct % self.num_ranks
        order = torch.argsort(owners, stable=True)
        asked = (distinct[order] // self.num_ranks).to(self._index_dtype)
        splits = torch.bincount(owners, minlength=self.num_ranks).to("cpu", torch.int32)
        wanted, wanted_splits = self._exchange.send(asked, splits)
        # Bags of one token each. A row that several ranks want stands in several bags, and FBGEMM's backward
        # sums them before its one step of that row, as it would have in one process.
        ones = torch.ones(wanted.numel(), device=self.device)
        offsets_of_one = torch.arange(wanted.numel() + 1, dtype=self._index_dtype, device=self.device)
        found = self._pool(wanted, offsets_of_one, ones)
        fetched = self._exchange.send_with_gradient(found, wanted_splits, splits)  # [distinct, D], in `order`
        place = torch.empty_like(order)
        place[order] = torch.arange(order.numel(), device=self.device)
        return pool_rows(fetched, place[positions], weights, offsets)

    def _pool(self, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Returns [B, D]: bags of this rank's own rows, pooled by FBGEMM, which steps them in `backward`."""
        # Without the flag FBGEMM computes the weights' gradient, too: a third of the whole look-up's time.
        pooled: Tensor = self._table(indices, offsets, weights, feature_requires_grad=self._constant_weights)
        return pooled[:, : self.dim]

    def set_learning_rate(self, learning_rate: float) -> None:
        """Sets the learning rate of the steps to come."""
        self._table.set_learning_rate(learning_rate / math.sqrt(self._state_scale))

    def local_rows(self) -> Tensor:
        """Returns a view [L, D] float32 of this rank's rows; rows are P apart in memory."""
        padded: Tensor = self._table.split_embedding_weights()[0]
        return padded.detach()[: self.num_local_rows, : self.dim]

    def accumulator(self) -> Tensor:
        """Returns [L] float32, the state of each row as an unpadded arena would hold it: a copy if padded."""
        state = self._state()
        return state * self._state_scale if self._state_scale != 1 else state

    def load_local(
        self, rows: Tensor | npt.NDArray[np.float32], accumulator: Tensor | npt.NDArray[np.float32]
    ) -> None:
        """Overwrites this rank's rows [L, D] and accumulator [L] with what their two readers once returned.

        Raises:
            ValueError: a shape differs.
        """
        new_rows, new_state = torch.as_tensor(rows), torch.as_tensor(accumulator)
        mine = (self.num_local_rows, self.dim)
        if tuple(new_rows.shape) != mine or tuple(new_state.shape) != mine[:1]:
            raise ValueError(
                f"rank {self.rank} of {self.num_ranks} holds rows {mine}, "
                f"given are rows {tuple(new_rows.shape)} and accumulator {tuple(new_state.shape)}"
            )
        with torch.no_grad():
            self.local_rows().copy_(new_rows)
            self._state().copy_(new_state).div_(self._state_scale)

    def _state(self) -> Tensor:
        state: Tensor = self._table.split_optimizer_states()[0][0]
        return state.detach().view(-1)[: self.num_local_rows]


def _make_table(
    num_rows: int,
    padded_dim: int,
    learning_rate: float,
    eps: float,
    device: torch.device,
    index_dtype: torch.dtype,
) -> Any:
    """Returns FBGEMM's table of one feature, with its optimizer."""
    with warnings.catch_warnings():
        # Its import warns of every GPU-only operator that a CPU build lacks.
        warnings.simplefilter("ignore")
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
            BoundsCheckMode,
            EmbeddingLocation,
        )
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )
    on_cpu = device.type == "cpu"
    location = EmbeddingLocation.HOST if on_cpu else EmbeddingLocation.DEVICE
    compute = ComputeDevice.CPU if on_cpu else ComputeDevice.CUDA
    return SplitTableBatchedEmbeddingBagsCodegen(
        [(num_rows, padded_dim, location, compute)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=learning_rate,
        eps=eps,
        stochastic_rounding=False,
        device=device,
        # A row outside the arena would read and write other memory; the check costs 0.5 ms of a 33 ms step.
        bounds_check_mode=BoundsCheckMode.FATAL,
        embedding_table_index_type=index_dtype,
        embedding_table_offset_type=index_dtype,
    )
