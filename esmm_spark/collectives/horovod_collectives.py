"""Collective operations by Horovod, whose ranks `horovodrun` starts."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from torch import Tensor

from esmm_spark.collectives.interface import LostTouchError, Pending

_SECONDS_BETWEEN_POLLS = 1e-4

_T = TypeVar("_T")


class HorovodCollectives:
    """The ranks that horovodrun started, from this one's point of view; see `interface.Collectives`."""

    matched_by_name = True

    def __init__(self) -> None:
        # The watch tells it better, and whatever Horovod does.
        os.environ.setdefault("HOROVOD_STALL_CHECK_DISABLE", "1")
        import horovod.torch as hvd

        self._hvd = hvd
        hvd.init()
        self.rank, self.num_ranks = int(hvd.rank()), int(hvd.size())
        self.local_rank, self.local_ranks = int(hvd.local_rank()), int(hvd.local_size())

    @property
    def library(self) -> str:
        """`Horovod over Gloo` or `... MPI`, `... and NCCL`."""
        controller = "MPI" if self._hvd.mpi_enabled() else "Gloo"
        return f"Horovod over {controller}{' and NCCL' if self._hvd.nccl_built() else ''}"

    def alltoall(
        self, tensor: Tensor, splits: Tensor, name: str, received_splits: Tensor | None = None
    ) -> Pending[tuple[Tensor, Tensor]]:
        """Starts an all-to-all; Horovod's ranks tell each other the splits in any case."""
        with _lost_touch():
            handle = self._hvd.alltoall_async(tensor, splits=splits, name=name)

        def received() -> tuple[Tensor, Tensor]:
            # Horovod's own waiting keeps a core busy, which ranks and its threads on the same host could use.
            while not self._hvd.poll(handle):
                time.sleep(_SECONDS_BETWEEN_POLLS)
            found, of_ranks = self._hvd.synchronize(handle)
            return found, of_ranks.to("cpu").int()

        return _Pending(received)

    def sum(self, tensor: Tensor, name: str) -> Pending[Tensor]:
        """Starts a sum in place."""
        with _lost_touch():
            handle = self._hvd.allreduce_async_(tensor, name=name, op=self._hvd.Sum)
        return _Pending(lambda: self._hvd.synchronize(handle))

    def broadcast(self, tensor: Tensor, name: str) -> None:
        """Overwrites `tensor` with rank 0's."""
        with _lost_touch():
            self._hvd.broadcast_(tensor, root_rank=0, name=name)

    def close(self) -> None:
        """Shuts Horovod down, once all ranks do."""
        self._hvd.shutdown()


class _Pending(Generic[_T]):
    """An operation on its way, and how its result is waited for."""

    def __init__(self, wait: Callable[[], _T]) -> None:
        self._wait = wait

    def result(self) -> _T:
        """Waits. Raises LostTouchError."""
        with _lost_touch():
            return self._wait()


@contextmanager
def _lost_touch() -> Iterator[None]:
    """Makes Horovod's failures inside LostTouchError."""
    from horovod.common.exceptions import HorovodInternalError

    try:
        yield
    except HorovodInternalError as error:
        raise LostTouchError(str(error)) from error
