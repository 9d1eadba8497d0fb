"""All-to-all exchange of tensors between ranks, forward and, of gradients, backward."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmm_spark.collectives.interface import Collectives, Pending
from esmm_spark.runtime.activity import waiting


class Sending:
    """An asynchronous all-to-all of one tensor, started and not yet waited for.

    Args:
        pending: of `Collectives.alltoall`.
    """

    def __init__(self, pending: Pending[tuple[Tensor, Tensor]]) -> None:
        self._pending = pending

    def received(self) -> tuple[Tensor, Tensor]:
        """Waits; returns what all ranks sent here, in the order of ranks, and [num_ranks] rows of each."""
        with waiting("the exchange of embedding rows"):
            return self._pending.result()


class Exchange:
    """The exchanges of one arena. Every rank starts the same ones in the same order.

    Args:
        collectives: of the ranks.

    Attributes:
        num_ranks: the ranks.
        sent_bytes: bytes sent to other ranks so far.
    """

    def __init__(self, collectives: Collectives) -> None:
        self._collectives = collectives
        self.num_ranks = collectives.num_ranks
        self.sent_bytes = 0

    def start(
        self, tensor: Tensor, splits: Tensor, name: str, received_splits: Tensor | None = None
    ) -> Sending:
        """Starts to send rows to all ranks and goes on at once.

        Args:
            tensor: [S, ...], first the rows for rank 0, then those for rank 1, ...
            splits: [num_ranks] int32 on the CPU, rows for each rank, with sum S.
            name: the same on all ranks, and of no other exchange that is on its way.
            received_splits: [num_ranks] int32, rows that each rank sends here, where that is known.
        """
        row_bytes = tensor.element_size() * tensor.shape[1:].numel()
        self.sent_bytes += (int(splits.sum()) - int(splits[self._collectives.rank])) * row_bytes
        rows = tensor.detach().contiguous()
        return Sending(self._collectives.alltoall(rows, splits, f"arena.{name}", received_splits))

    def received_with_gradient(
        self, tensor: Tensor, sending: Sending, splits: Tensor, expected_splits: Tensor
    ) -> Tensor:
        """Returns what `sending` receives, [R, D]; its gradient goes back to where the rows came from.

        Args:
            tensor: [S, D], what was sent.
            sending: of `tensor`, started by this exchange.
            splits: [num_ranks] int32, rows sent to each rank.
            expected_splits: [num_ranks] int32, rows that each rank sends here, with sum R.
        """
        return cast(Tensor, _SentBothWays.apply(tensor, sending, splits, expected_splits, self))  # type: ignore[no-untyped-call]


class _SentBothWays(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tensor: Tensor, sending: Sending, splits: Tensor, expected: Tensor, exchange: Exchange
    ) -> Tensor:
        ctx.exchange, ctx.expected, ctx.splits = exchange, expected, splits
        received, received_splits = sending.received()
        assert torch.equal(received_splits, expected), (received_splits, expected)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        returned, returned_splits = ctx.exchange.start(grad, ctx.expected, "gradient", ctx.splits).received()
        assert torch.equal(returned_splits, ctx.splits), (returned_splits, ctx.splits)
        return returned, None, None, None, None
