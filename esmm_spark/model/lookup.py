"""Look-ups in the arena that are on their way: their exchanges run while something else is computed.

Shapes: B bags, T tokens, U distinct rows, D dim, R ranks.
"""

from typing import Protocol

import torch
from torch import Tensor

from esmm_spark.model.distinct import distinct_by_owner
from esmm_spark.model.exchange import Exchange, Sending


class RowTable(Protocol):
    """One rank's rows and their optimizer."""

    @property
    def rows(self) -> Tensor:
        """[L, D] float32, a view."""
        ...

    def pooled(self, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Returns bags [B, D] of rows; its `backward` steps them. Raises RuntimeError on a wrong index."""
        ...

    def set_learning_rate(self, learning_rate: float) -> None:
        """Sets the learning rate of the steps to come."""
        ...

    def state(self) -> Tensor:
        """Returns [L] float32, the state of row-wise Adagrad."""
        ...

    def load_state(self, state: Tensor) -> None:
        """Overwrites the state."""
        ...


class Lookup(Protocol):
    """A look-up that was started: the ranks are being asked for its rows."""

    def fetch(self) -> None:
        """Reads the rows that others asked this rank for, once it knows them, and starts to send them.

        Rows are read here, so this belongs behind the step of the batch before.
        """
        ...

    def pooled(self) -> Tensor:
        """Waits for the rows and returns the bags [B, D]; to be called once, after `fetch` or instead."""
        ...


class OwnLookup:
    """A look-up where this is the only rank.

    Args:
        table: the rows.
        rows: [T] in the table's type of indices.
        offsets: [B + 1] of the same type.
        weights: [T] float32.
    """

    def __init__(self, table: RowTable, rows: Tensor, offsets: Tensor, weights: Tensor) -> None:
        self._table, self._rows, self._offsets, self._weights = table, rows, offsets, weights

    def fetch(self) -> None:
        """Does nothing: all rows are here."""

    def pooled(self) -> Tensor:
        """Returns the bags [B, D]."""
        return self._table.pooled(self._rows, self._offsets, self._weights)


class SharedLookup:
    """A look-up over several ranks, each of which makes the same calls in the same order.

    Args:
        exchange: of the arena.
        table: this rank's rows.
        rows: [T] arena rows.
        offsets: [B + 1] int.
        weights: [T] float32.
        index_dtype: the table's type of indices.
    """

    def __init__(
        self,
        exchange: Exchange,
        table: RowTable,
        rows: Tensor,
        offsets: Tensor,
        weights: Tensor,
        index_dtype: torch.dtype,
    ) -> None:
        self._exchange, self._table, self._offsets, self._weights = exchange, table, offsets, weights
        self._distinct = distinct_by_owner(rows, exchange.num_ranks)
        asked = self._distinct.local_rows.to(index_dtype)
        self._asked = exchange.start(asked, self._distinct.splits, "rows")
        self._found: tuple[Tensor, Sending, Tensor] | None = None

    def fetch(self) -> None:
        """Starts to send the rows that this rank was asked for."""
        wanted, wanted_splits = self._asked.received()
        # Bags of one token each. A row that several ranks want stands in several bags, and the table's
        # backward sums them before its one step of that row, as it would have in one process.
        ones = torch.ones(wanted.numel(), device=wanted.device)
        offsets_of_one = torch.arange(wanted.numel() + 1, dtype=wanted.dtype, device=wanted.device)
        found = self._table.pooled(wanted, offsets_of_one, ones)
        self._found = found, self._exchange.start(found, wanted_splits, "found"), wanted_splits

    def pooled(self) -> Tensor:
        """Returns the bags [B, D]."""
        if self._found is None:
            self.fetch()
        assert self._found is not None
        fetched = self._exchange.received_with_gradient(*self._found, self._distinct.splits)  # [U, D]
        return self._distinct.pool(fetched, self._offsets, self._weights)
