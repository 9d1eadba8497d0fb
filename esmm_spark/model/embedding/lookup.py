"""Asynchronous look-ups in the arena: their exchanges overlap with other computation.

Shapes: B bags, T tokens, U distinct rows, D dim, R ranks.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from esmm_spark.model.embedding.distinct import distinct_by_owner
from esmm_spark.model.embedding.exchange import Exchange, Sending


class RowTable(Protocol):
    """One rank's rows and their optimizer."""

    @property
    def rows(self) -> Tensor:
        """[L, D] float32, a view."""
        ...

    def pooled(self, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Returns bags [B, D] of rows; its `backward` steps them. Raises RuntimeError on a wrong index."""
        ...

    def begin_step(self, number: int, learning_rate: float) -> None:
        """Sets the number, counted from 1, and the learning rate of the next step."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Returns the optimizer's state by name, [L] or [L, D] float32: views, or copies."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Overwrites the state."""
        ...


class Lookup(Protocol):
    """An asynchronous look-up whose requests have been sent to the owners of its rows."""

    def fetch(self) -> None:
        """Waits for the requests of other ranks, gathers their rows and starts to send them.

        The rows are read here, so this must follow the step of the batch before.
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
        requested = self._distinct.local_rows.to(index_dtype)
        self._request = exchange.start(requested, self._distinct.splits, "rows")
        self._reply: tuple[Tensor, Sending, Tensor] | None = None

    def fetch(self) -> None:
        """Waits for the requests of other ranks, gathers their rows and starts to send them."""
        requested, requested_splits = self._request.received()
        # Bags of one token each. A row that several ranks request stands in several bags, and the table's
        # backward sums them before its one step of that row, as it would have in one process.
        ones = torch.ones(requested.numel(), device=requested.device)
        offsets_of_one = torch.arange(requested.numel() + 1, dtype=requested.dtype, device=requested.device)
        gathered = self._table.pooled(requested, offsets_of_one, ones)
        sending = self._exchange.start(gathered, requested_splits, "found", self._distinct.splits)
        self._reply = gathered, sending, requested_splits

    def pooled(self) -> Tensor:
        """Returns the bags [B, D]."""
        if self._reply is None:
            self.fetch()
        assert self._reply is not None
        fetched = self._exchange.received_with_gradient(*self._reply, self._distinct.splits)  # [U, D]
        return self._distinct.pool(fetched, self._offsets, self._weights)
