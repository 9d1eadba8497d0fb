"""All-to-all exchange of tensors between ranks by `hvd.alltoall`, forward and, of gradients, backward."""

import time
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmm_spark.runtime.activity import waiting

_SECONDS_BETWEEN_POLLS = 1e-4


class Sending:
    """An asynchronous all-to-all of one tensor, started and not yet waited for.

    Args:
        hvd: `horovod.torch`.
        handle: of `hvd.alltoall_async`.
    """

    def __init__(self, hvd: ModuleType, handle: int) -> None:
        self._hvd, self._handle = hvd, handle

    def received(self) -> tuple[Tensor, Tensor]:
        """Waits; returns what all ranks sent here, in the order of ranks, and [num_ranks] rows of each."""
        # Horovod's own waiting keeps a core busy, which ranks and its threads on the same host could use.
        with waiting("the exchange of embedding rows"):
            while not self._hvd.poll(self._handle):
                time.sleep(_SECONDS_BETWEEN_POLLS)
            received, splits = self._hvd.synchronize(self._handle)
        return received, splits.to("cpu", torch.int32)


class Exchange:
    """The exchanges of one arena, after `hvd.init()`. Every rank starts the same ones in the same order.

    Args:
        num_ranks: `hvd.size()`.

    Attributes:
        num_ranks: the same.
        sent_bytes: bytes sent to other ranks so far.
    """

    def __init__(self, num_ranks: int) -> None:
        import horovod.torch as hvd

        self._hvd = hvd
        assert hvd.size() == num_ranks, (hvd.size(), num_ranks)
        self.num_ranks, self._rank = num_ranks, hvd.rank()
        self.sent_bytes = 0

    def start(self, tensor: Tensor, splits: Tensor, name: str) -> Sending:
        """Starts to send rows to all ranks and goes on at once.

        Args:
            tensor: [S, ...], first the rows for rank 0, then those for rank 1, ...
            splits: [num_ranks] int32 on the CPU, rows for each rank, with sum S.
            name: the same on all ranks, and of no other exchange that is on its way. Horovod matches
                operations by name, and its own numbering of nameless ones would drift apart if one rank ever
                made a call more than another.
        """
        row_bytes = tensor.element_size() * tensor.shape[1:].numel()
        self.sent_bytes += (int(splits.sum()) - int(splits[self._rank])) * row_bytes
        handle = self._hvd.alltoall_async(tensor.detach().contiguous(), splits=splits, name=f"arena.{name}")
        return Sending(self._hvd, handle)

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
        returned, returned_splits = ctx.exchange.start(grad, ctx.expected, "gradient").received()
        assert torch.equal(returned_splits, ctx.splits), (returned_splits, ctx.splits)
        return returned, None, None, None, None
