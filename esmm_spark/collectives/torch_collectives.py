"""Collective operations by torch.distributed, whose ranks `torchrun` or Spark's TorchDistributor start.

Gloo carries tensors on the CPU, NCCL those on CUDA. Operations are matched by their order, so every rank
starts the same ones in the same order, all of them from one thread.
"""

import hashlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from esmm_spark.collectives.interface import LostTouchError, Pending

# Within this time all ranks have found each other.
_TIME_TO_MEET = timedelta(minutes=5)
# The watch ends ranks that wait in vain; a checkpoint may take as long as it takes.
_PATIENCE = timedelta(days=7)

_T = TypeVar("_T")


class TorchCollectives:
    """The ranks that torchrun started, from this one's point of view; see `interface.Collectives`."""

    matched_by_name = False

    def __init__(self) -> None:
        self._has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if self._has_nccl else "gloo"
        with _lost_touch():
            dist.init_process_group(backend, timeout=_TIME_TO_MEET)
            self.rank, self.num_ranks = dist.get_rank(), dist.get_world_size()
            self._group = dist.new_group(backend=backend, timeout=_PATIENCE)
            hosts = self._hosts()
        self.local_rank = hosts[: self.rank].count(hosts[self.rank])
        self.local_ranks = hosts.count(hosts[self.rank])
        self._has_failed = False

    def _hosts(self) -> list[int]:
        """Returns a hash of each rank's host: Spark starts each rank as if it were its host's only one."""
        digest = hashlib.sha256(socket.gethostname().encode()).digest()
        hosts = torch.zeros(self.num_ranks, dtype=torch.int64)
        hosts[self.rank] = int.from_bytes(digest[:7], "big")
        dist.all_reduce(hosts, group=self._group)
        return hosts.tolist()

    @property
    def library(self) -> str:
        """`torch.distributed over Gloo` or `... Gloo and NCCL`."""
        return f"torch.distributed over Gloo{' and NCCL' if self._has_nccl else ''}"

    def alltoall(
        self, tensor: Tensor, splits: Tensor, name: str, received_splits: Tensor | None = None
    ) -> Pending[tuple[Tensor, Tensor]]:
        """Starts an all-to-all; where `received_splits` are unknown, they are exchanged first.

        Then the tensor itself follows only when its result is asked for, which is when all ranks do.
        """
        if received_splits is not None:
            start = self._start_alltoall(tensor, splits, received_splits)
            return _Pending(self, lambda: (start(), received_splits))
        numbers = torch.empty(self.num_ranks, dtype=torch.int32)
        with self.told():
            told = dist.all_to_all_single(numbers, splits.int(), group=self._group, async_op=True)

        def received() -> tuple[Tensor, Tensor]:
            told.wait()
            return self._start_alltoall(tensor, splits, numbers)(), numbers

        return _Pending(self, received)

    def _start_alltoall(
        self, tensor: Tensor, splits: Tensor, received_splits: Tensor
    ) -> Callable[[], Tensor]:
        received = tensor.new_empty(int(received_splits.sum()), *tensor.shape[1:])
        with self.told():
            work = dist.all_to_all_single(
                received,
                tensor,
                received_splits.tolist(),
                splits.tolist(),
                group=self._group,
                async_op=True,
            )

        def wait() -> Tensor:
            work.wait()
            return received

        return wait

    def sum(self, tensor: Tensor, name: str) -> Pending[Tensor]:
        """Starts a sum in place."""
        with self.told():
            work = dist.all_reduce(tensor, group=self._group, async_op=True)

        def wait() -> Tensor:
            work.wait()
            return tensor

        return _Pending(self, wait)

    def broadcast(self, tensor: Tensor, name: str) -> None:
        """Overwrites `tensor` with rank 0's."""
        with self.told():
            dist.broadcast(tensor, 0, group=self._group)

    def close(self) -> None:
        """Leaves the ranks, once all of them do; after a failure at once."""
        if not self._has_failed:
            dist.destroy_process_group()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Makes failures of torch.distributed inside LostTouchError, and notes that there was one."""
        try:
            with _lost_touch():
                yield
        except LostTouchError:
            self._has_failed = True
            raise


class _Pending(Generic[_T]):
    """An operation on its way, and how its result is waited for."""

    def __init__(self, ranks: TorchCollectives, wait: Callable[[], _T]) -> None:
        self._ranks, self._wait = ranks, wait

    def result(self) -> _T:
        """Waits. Raises LostTouchError."""
        with self._ranks.told():
            return self._wait()


@contextmanager
def _lost_touch() -> Iterator[None]:
    """Makes failures of torch.distributed inside LostTouchError: its Gloo has none but RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        raise LostTouchError(str(error)) from error
