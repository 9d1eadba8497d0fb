"""The embedding arena: the rows of all tables, sharded over ranks, stepped by row-wise Adagrad.

Row r belongs to rank r % num_ranks, at local index r // num_ranks. No dense gradient of the rows is ever
made: the backward pass sums the gradients of each distinct row of the batch and steps that row at once.

    state_r += mean_d(g_rd ^ 2)
    row_r   -= learning_rate * g_r / (sqrt(state_r) + eps)

Shapes: B bags, T tokens, U distinct rows among them, D dim, L local rows.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from esmm_spark.model.embedding.cpu_table import CpuTable
from esmm_spark.model.embedding.exchange import Exchange
from esmm_spark.model.embedding.fbgemm_table import FbgemmTable
from esmm_spark.model.embedding.initial_rows import fill_uniform
from esmm_spark.model.embedding.lookup import Lookup, OwnLookup, RowTable, SharedLookup
from esmm_spark.model.embedding.pooling import bag_offsets
from esmm_spark.model.embedding.sharding import num_local_rows


class EmbeddingArena(nn.Module):
    """All embedding rows that this rank owns, and the way to everyone else's.

    The gradient that arrives at the output must already hold the global scale (each rank divides its summed
    loss by the impressions of the global batch): gradients of one row from several ranks are summed, not
    averaged. The step happens inside `backward()`, so no optimizer may hold `arena.parameters()`.

    With more than one rank, **every rank must call `forward`, and `backward` on what depends on its output,
    in every step**, also with no rows at all: the others wait for it. Under `torch.no_grad()` no rank may
    call `backward`.

    `start` is the first stage of `forward`. A step's look-up may be started while the step before is
    computed, so that its first exchange overlaps with it: every rank or none must do so.

    Args:
        num_rows: rows of the whole arena, over all ranks.
        dim: D.
        rank: this process.
        num_ranks: 1, or `hvd.size()` after `hvd.init()`.
        learning_rate: of row-wise Adagrad.
        eps: of row-wise Adagrad.
        init_range: rows start uniform in [-init_range, init_range), by (seed, row, column) alone.
        seed: of the initial rows.
        device: where the rows live, `cpu` or `cuda`.

    Attributes:
        exchanged_bytes: bytes that this rank sent to others so far; 0 with one rank.

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
        # int32 halves what is read of the indices; only a shard of 2^31 rows needs more.
        self._index_dtype = torch.int32 if self.num_local_rows < 2**31 else torch.int64
        self._table: RowTable = (
            CpuTable(self.num_local_rows, dim, learning_rate, eps)
            if self.device.type == "cpu"
            else FbgemmTable(self.num_local_rows, dim, learning_rate, eps, self.device, self._index_dtype)
        )
        self._exchange = Exchange(num_ranks) if num_ranks > 1 else None
        fill_uniform(self.local_rows(), rank, num_ranks, init_range, seed)

    @property
    def kernel(self) -> str:
        """What looks rows up and steps them: `compiled` or `FBGEMM`."""
        return "compiled" if isinstance(self._table, CpuTable) else "FBGEMM"

    @property
    def exchanged_bytes(self) -> int:
        """Bytes that left this rank for others so far."""
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
        return self.start(rows, weights, lengths).pooled()

    def start(self, rows: Tensor, weights: Tensor, lengths: Tensor) -> Lookup:
        """Starts the look-up of `forward`: sends its requests to the owners of the rows.

        Args:
            rows: [T] as for `forward`.
            weights: [T].
            lengths: [B].

        Raises:
            RuntimeError: as `forward`.
        """
        self._require_in_range(rows)
        offsets = bag_offsets(lengths, self._index_dtype)
        if self._exchange is None:
            return OwnLookup(self._table, rows.to(self._index_dtype), offsets, weights)
        return SharedLookup(self._exchange, self._table, rows, offsets, weights, self._index_dtype)

    def _require_in_range(self, rows: Tensor) -> None:
        """Raises RuntimeError where a row is none of the arena's: other memory would be read and written."""
        if self.device.type != "cpu" or not rows.numel():
            return  # on CUDA FBGEMM checks, without waiting for the device
        for row in rows.aminmax():
            if not 0 <= int(row) < self.num_rows:
                raise RuntimeError(f"embedding row {int(row)} is none of 0 to {self.num_rows - 1}")

    def set_learning_rate(self, learning_rate: float) -> None:
        """Sets the learning rate of the steps to come."""
        self._table.set_learning_rate(learning_rate)

    def local_rows(self) -> Tensor:
        """Returns a view [L, D] float32 of this rank's rows; they may lie further apart than D."""
        return self._table.rows

    def accumulator(self) -> Tensor:
        """Returns [L] float32, the state of each row: a view, or a copy."""
        return self._table.state()

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
            self._table.load_state(new_state)
