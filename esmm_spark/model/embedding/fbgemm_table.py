"""Embedding rows in FBGEMM's table, with its fused row-wise Adagrad or SGD: what CUDA uses.

Shapes: B bags, T tokens, D dim, P padded dim (a multiple of 4, which FBGEMM wants), L rows.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.model.embedding.row_optimizer import RowOptimizer


class FbgemmTable:
    """L rows and their optimizer's state.

    Args:
        num_rows: L.
        dim: D, any number; rows are padded to a multiple of 4 in memory, and the optimizer is set so that its
            steps are those of unpadded rows.
        optimizer: steps them; not Adam, which FBGEMM has on CUDA alone, so that no test could run it.
        device: `cuda`; `cpu` works, too, slowly.
        index_dtype: of indices and offsets, int32 or int64.

    Raises:
        ConfigError: the optimizer is Adam.

    Source: fbgemm_gpu's `SplitTableBatchedEmbeddingBagsCodegen`, `EXACT_ROWWISE_ADAGRAD`, `EXACT_SGD`.
    """

    def __init__(
        self,
        num_rows: int,
        dim: int,
        optimizer: RowOptimizer,
        device: torch.device,
        index_dtype: torch.dtype,
    ) -> None:
        if optimizer.name == "adam":
            raise ConfigError(
                f"train.embedding_optimizer = adam, train.device = {device.type}: on it rows are stepped by "
                "rowwise_adagrad or sgd: use one of these, or train.device=cpu"
            )
        self._dim, self._l2, self._has_state = dim, optimizer.l2, optimizer.name == "rowwise_adagrad"
        padded_dim = -(-dim // 4) * 4
        # FBGEMM takes the mean of g^2 over P columns, P - D of them 0: its state is D/P of the true one. With
        # s = sqrt(P/D), learning_rate g / (s sqrt(state) + eps) = (learning_rate / s) g / (sqrt(state) + eps
        # / s): exact, nothing is lost.
        self._state_scale = padded_dim / dim if self._has_state else 1.0
        scale = math.sqrt(self._state_scale)
        scaled = optimizer._replace(learning_rate=optimizer.learning_rate / scale, eps=optimizer.eps / scale)
        self._table = _make_table(max(num_rows, 1), padded_dim, scaled, device, index_dtype)
        self._constant_weights = torch.zeros(1, dtype=torch.int32, device=device)
        self.rows: Tensor = self._table.split_embedding_weights()[0].detach()[:num_rows, :dim]
        if self._has_state:
            self._state: Tensor = self._table.split_optimizer_states()[0][0].detach().view(-1)[:num_rows]

    def pooled(self, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Returns [B, D]: per bag the sum of weight x row; its `backward` steps the rows.

        Raises:
            RuntimeError: an index is out of range.
        """
        if self._l2 == 0 or not torch.is_grad_enabled():
            return self._look_up(indices, offsets, weights)
        # Each distinct row in a bag of its own, whose gradient is the penalty's: FBGEMM's decay is not that.
        rows, num_bags = indices.unique(), len(offsets) - 1
        own_bags = torch.arange(1, len(rows) + 1, dtype=offsets.dtype, device=offsets.device)
        both = self._look_up(
            torch.cat((indices, rows)),
            torch.cat((offsets, offsets[-1] + own_bags)),
            torch.cat((weights, torch.ones_like(rows, dtype=weights.dtype))),
        )
        return cast(Tensor, _Penalised.apply(both, num_bags, self._l2))  # type: ignore[no-untyped-call]

    def _look_up(self, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        # Without the flag FBGEMM computes the weights' gradient, too: a third of the whole look-up's time.
        pooled: Tensor = self._table(indices, offsets, weights, feature_requires_grad=self._constant_weights)
        return pooled[:, : self._dim]

    def begin_step(self, number: int, learning_rate: float) -> None:
        """Sets the learning rate of the next step; its number has no effect here."""
        self._table.set_learning_rate(learning_rate / math.sqrt(self._state_scale))

    def state(self) -> dict[str, Tensor]:
        """Returns each row's state, as unpadded rows would have it, by name: [L] float32."""
        return {"accumulator": self._state * self._state_scale} if self._has_state else {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Overwrites the state with what `state` once returned."""
        if self._has_state:
            self._state.copy_(state["accumulator"]).div_(self._state_scale)


class _Penalised(torch.autograd.Function):
    """Bags [B, D] followed by distinct rows, which are left out: their gradient is l2 times themselves."""

    @staticmethod
    def forward(ctx: Any, both: Tensor, num_bags: int, l2: float) -> Tensor:
        ctx.l2 = l2
        ctx.save_for_backward(both[num_bags:].clone())
        return both[:num_bags]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        return torch.cat((gradient, ctx.l2 * rows)), None, None


def _make_table(
    num_rows: int,
    padded_dim: int,
    optimizer: RowOptimizer,
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
        optimizer=(EmbOptimType.EXACT_SGD if optimizer.name == "sgd" else EmbOptimType.EXACT_ROWWISE_ADAGRAD),
        learning_rate=optimizer.learning_rate,
        eps=optimizer.eps,
        stochastic_rounding=False,
        device=device,
        # A row outside the arena would read and write other memory; the check costs 0.5 ms of a 33 ms step.
        bounds_check_mode=BoundsCheckMode.FATAL,
        embedding_table_index_type=index_dtype,
        embedding_table_offset_type=index_dtype,
    )
