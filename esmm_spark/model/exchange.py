"""Tensors that travel between all ranks by `hvd.alltoall`, forwards and, as gradients, backwards."""

import time
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_SECONDS_BETWEEN_POLLS = 1e-4


class Exchange:
    """The exchanges of one arena, after `hvd.init()`. Every rank makes the same calls in the same order.

    Args:
        num_ranks: `hvd.size()`.

    Attributes:
        sent_bytes: bytes sent to other ranks since it was last set to 0.
    """

    def __init__(self, num_ranks: int) -> None:
        import horovod.torch as hvd

        self._hvd = hvd
        assert hvd.size() == num_ranks, (hvd.size(), num_ranks)
        self._rank = hvd.rank()
        self.sent_bytes = 0

    def send(self, tensor: Tensor, splits: Tensor, name: str = "rows") -> tuple[Tensor, Tensor]:
        """Returns what all ranks sent here, in the order of ranks, and how many rows each sent.

        Args:
            tensor: [S, ...], first the rows for rank 0, then those for rank 1, ...
            splits: [num_ranks] int32 on the CPU, rows for each rank, with sum S.
            name: the same on all ranks. Horovod matches operations by name, and its own numbering of nameless
                ones would drift apart if one rank ever made a call more than another.
        """
        row_bytes = tensor.element_size() * tensor.shape[1:].numel()
        self.sent_bytes += (int(splits.sum()) - int(splits[self._rank])) * row_bytes
        handle = self._hvd.alltoall_async(tensor.detach().contiguous(), splits=splits, name=f"arena.{name}")
        # Horovod's own waiting keeps a core busy, which ranks and its threads on the same host could use.
        while not self._hvd.poll(handle):
            time.sleep(_SECONDS_BETWEEN_POLLS)
        received, received_splits = self._hvd.synchronize(handle)
        return received, received_splits.to("cpu", torch.int32)

    def send_with_gradient(self, tensor: Tensor, splits: Tensor, expected_splits: Tensor) -> Tensor:
        """Returns [R, D] as `send` does; its gradient goes back to the ranks that the rows came from.

        Args:
            tensor: [S, D], rows for rank 0, 1, ...
            splits: [num_ranks] int32, rows for each rank.
            expected_splits: [num_ranks] int32, rows that each rank sends here, with sum R.
        """
        return cast(Tensor, _SendBothWays.apply(tensor, splits, expected_splits, self))  # type: ignore[no-untyped-call]


class _SendBothWays(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, splits: Tensor, expected: Tensor, exchange: Exchange) -> Tensor:
        ctx.exchange, ctx.expected = exchange, expected
        received, received_splits = exchange.send(tensor, splits, "found")
        assert torch.equal(received_splits, expected), (received_splits, expected)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        returned, _ = ctx.exchange.send(grad, ctx.expected, "gradient")
        return returned, None, None, None
