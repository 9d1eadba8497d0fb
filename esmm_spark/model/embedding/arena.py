"""The embedding arena: the rows of all tables, sharded over ranks, with the optimizer that steps them.

Row r belongs to rank r % num_ranks, at local index r // num_ranks. No dense gradient of the rows is ever
made: the backward pass sums the gradients of each distinct row of the batch and steps that row at once
(`RowOptimizer` has the formulas).

Shapes: B bags, T tokens, U distinct rows among them, D dim, L local rows.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from esmm_spark.collectives.interface import Collectives
from esmm_spark.model.embedding.cpu_table import CpuTable
from esmm_spark.model.embedding.exchange import Exchange
from esmm_spark.model.embedding.fbgemm_table import FbgemmTable
from esmm_spark.model.embedding.initial_rows import fill_uniform
from esmm_spark.model.embedding.lookup import Lookup, OwnLookup, RowTable, SharedLookup
from esmm_spark.model.embedding.pooling import bag_offsets
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.embedding.sharding import num_local_rows


class EmbeddingArena(nn.Module):
    """This rank's shard of the embedding arena, with look-ups in the shards of all ranks.

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
        collectives: of the ranks; None for one rank alone.
        optimizer: steps the rows.
        init_range: rows start uniform in [-init_range, init_range), by (seed, row, column) alone.
        seed: of the initial rows.
        device: where the rows live, `cpu` or `cuda`.

    Attributes:
        exchanged_bytes: bytes that this rank sent to others so far; 0 with one rank.

    Raises:
        ConfigError: the optimizer is not to be had on this device.
    """

    def __init__(
        self,
        num_rows: int,
        dim: int,
        *,
        collectives: Collectives | None = None,
        optimizer: RowOptimizer,
        init_range: float,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        rank, num_ranks = (collectives.rank, collectives.num_ranks) if collectives else (0, 1)
        self.num_rows, self.dim, self.rank, self.num_ranks = num_rows, dim, rank, num_ranks
        self.num_local_rows = num_local_rows(num_rows, rank, num_ranks)
        self.device, self.optimizer = torch.device(device), optimizer
        # int32 halves what is read of the indices; only a shard of 2^31 rows needs more.
        self._index_dtype = torch.int32 if self.num_local_rows < 2**31 else torch.int64
        self._table: RowTable = (
            CpuTable(self.num_local_rows, dim, optimizer)
            if self.device.type == "cpu"
            else FbgemmTable(self.num_local_rows, dim, optimizer, self.device, self._index_dtype)
        )
        self._exchange = Exchange(collectives) if collectives and num_ranks > 1 else None
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

    def begin_step(self, number: int, learning_rate: float) -> None:
        """Sets the number, counted from 1 over the whole run, and the learning rate of the next step.

        Without it every step is the first, at the optimizer's own rate; only Adam asks which step it is.
        """
        self._table.begin_step(number, learning_rate)

    def local_rows(self) -> Tensor:
        """Returns a view [L, D] float32 of this rank's rows; they may lie further apart than D."""
        return self._table.rows

    def state(self) -> dict[str, Tensor]:
        """Returns the optimizer's state of each row by name, [L] or [L, D] float32: views, or copies."""
        return self._table.state()

    def load_local(
        self,
        rows: Tensor | npt.NDArray[np.float32],
        state: Mapping[str, Tensor | npt.NDArray[np.float32]] | None = None,
    ) -> None:
        """Overwrites this rank's rows [L, D] and their state with what their two readers once returned.

        Args:
            rows: [L, D].
            state: tensors by name; None leaves the state as it is.

        Raises:
            ValueError: a shape differs, or the state is another optimizer's.
        """
        given = {"rows": torch.as_tensor(rows)}
        given |= {name: torch.as_tensor(tensor) for name, tensor in (state or {}).items()}
        shapes = {} if state is None else self.optimizer.state_shapes(self.dim)
        shapes = {"rows": (self.dim,), **shapes}
        mine = {name: (self.num_local_rows, *shape) for name, shape in shapes.items()}
        found = {name: tuple(tensor.shape) for name, tensor in given.items()}
        if found != mine:
            raise ValueError(f"rank {self.rank} of {self.num_ranks} holds {mine}, given are {found}")
        with torch.no_grad():
            self.local_rows().copy_(given.pop("rows"))
            if state is not None:
                self._table.load_state(given)
