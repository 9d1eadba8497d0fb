"""Embedding rows in FBGEMM's table, with its fused row-wise Adagrad: what CUDA uses.

Shapes: B bags, T tokens, D dim, P padded dim (a multiple of 4, which FBGEMM wants), L rows.
"""

import math
import warnings
from typing import Any

import torch
from torch import Tensor


class FbgemmTable:
    """L rows and the state of row-wise Adagrad.

    Args:
        num_rows: L.
        dim: D, any number; rows are padded to a multiple of 4 in memory, and the optimizer is set so that its
            steps are those of unpadded rows.
        learning_rate: of row-wise Adagrad.
        eps: of row-wise Adagrad.
        device: `cuda`; `cpu` works, too, slowly.
        index_dtype: of indices and offsets, int32 or int64.

    Source: fbgemm_gpu's `SplitTableBatchedEmbeddingBagsCodegen`, `EXACT_ROWWISE_ADAGRAD`.
    """

    def __init__(
        self,
        num_rows: int,
        dim: int,
        learning_rate: float,
        eps: float,
        device: torch.device,
        index_dtype: torch.dtype,
    ) -> None:
        self._dim = dim
        padded_dim = -(-dim // 4) * 4
        # FBGEMM takes the mean of g^2 over P columns, P - D of them 0: its state is D/P of the true one. With
        # s = sqrt(P/D), learning_rate g / (s sqrt(state) + eps) = (learning_rate / s) g / (sqrt(state) + eps
        # / s): exact, nothing is lost.
        self._state_scale = padded_dim / dim
        scale = math.sqrt(self._state_scale)
        self._table = _make_table(
            max(num_rows, 1), padded_dim, learning_rate / scale, eps / scale, device, index_dtype
        )
        self._constant_weights = torch.zeros(1, dtype=torch.int32, device=device)
        self.rows: Tensor = self._table.split_embedding_weights()[0].detach()[:num_rows, :dim]
        self._state: Tensor = self._table.split_optimizer_states()[0][0].detach().view(-1)[:num_rows]

    def pooled(self, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Returns [B, D]: per bag the sum of weight x row; its `backward` steps the rows.

        Raises:
            RuntimeError: an index is out of range.
        """
        # Without the flag FBGEMM computes the weights' gradient, too: a third of the whole look-up's time.
        pooled: Tensor = self._table(indices, offsets, weights, feature_requires_grad=self._constant_weights)
        return pooled[:, : self._dim]

    def set_learning_rate(self, learning_rate: float) -> None:
        """Sets the learning rate of the steps to come."""
        self._table.set_learning_rate(learning_rate / math.sqrt(self._state_scale))

    def state(self) -> Tensor:
        """Returns [L] float32, each row's state as unpadded rows would have it."""
        return self._state * self._state_scale

    def load_state(self, state: Tensor) -> None:
        """Overwrites the state with what `state` once returned, [L]."""
        self._state.copy_(state).div_(self._state_scale)


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
