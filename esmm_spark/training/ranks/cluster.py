"""Communication of the ranks of one training job.

A job started with `horovodrun` has several ranks that talk over Horovod; started with plain `python` it is
one rank and Horovod is not even imported. All ranks fail together: when one ends, its peers' next exchange
raises `RankFailedError`, and one that the others wait for in vain is given up on after `stall_timeout_s`,
by a watch of our own (watch.py).
"""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeVar, cast

import torch

from esmm_spark.contracts.errors import EsmmSparkError, RankFailedError
from esmm_spark.runtime.activity import inside, waiting
from esmm_spark.training.ranks.launch import FailedElsewhereError
from esmm_spark.training.ranks.watch import Watch

# A rank that works for long says so this often.
_SECONDS_BETWEEN_SIGNS = 1.0
# Within this time the watch has seen who ended.
_SECONDS_TO_LEARN_WHO = 2.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Cluster:
    """This rank's place among the ranks, and the exchanges between them.

    Every exchange must be called by all ranks in the same order.

    Args:
        rank: this rank, [0, num_ranks).
        num_ranks: ranks of the job.
        local_rank: this rank among those of its host, which is also its GPU.
        local_ranks: ranks on this host.
    """

    rank: int
    num_ranks: int
    local_rank: int
    local_ranks: int

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that reports and writes what only one may write."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        """Returns the sum of `tensor` over the ranks, element by element, on every rank."""
        return self.sum_later(tensor, name)()

    def sum_later(self, tensor: torch.Tensor, name: str) -> Callable[[], torch.Tensor]:
        """Starts a sum over the ranks and returns the function that waits for its result."""
        if self.num_ranks == 1:
            return lambda: tensor
        import horovod.torch as hvd

        handle = hvd.allreduce_async(tensor, name=name, op=hvd.Sum)

        def wait_for_sum() -> torch.Tensor:
            with waiting(f'exchange "{name}"'):
                return cast(torch.Tensor, hvd.synchronize(handle))

        return wait_for_sum

    def from_first(self, value: int, name: str) -> int:
        """Returns rank 0's `value` on every rank."""
        if self.num_ranks == 1:
            return value
        import horovod.torch as hvd

        with waiting(f'exchange "{name}"'):
            found = hvd.broadcast(torch.tensor([value], dtype=torch.int64), root_rank=0, name=name)
        return int(found.item())

    def text_from_first(self, text: str, name: str) -> str:
        """Returns rank 0's `text` on every rank."""
        if self.num_ranks == 1:
            return text
        import horovod.torch as hvd

        content = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = self.from_first(len(content), f"{name}.length")
        received = content if self.is_first else torch.zeros(length, dtype=torch.uint8)
        if length == 0:
            return ""
        with waiting(f'exchange "{name}"'):
            return bytes(hvd.broadcast(received, root_rank=0, name=name).tolist()).decode()

    def texts(self, text: str, name: str) -> list[str]:
        """Returns each rank's `text`, in the order of ranks, on every rank."""
        if self.num_ranks == 1:
            return [text]
        import horovod.torch as hvd

        # Short ones by their length first: an allgather concatenates what differs in length.
        content = text.encode()
        with waiting(f'exchange "{name}"'):
            lengths = hvd.allgather(torch.tensor([len(content)]), name=f"{name}.length").tolist()
            joined = hvd.allgather(torch.tensor(list(content), dtype=torch.uint8), name=name)
        pieces = torch.split(joined, lengths)
        return [bytes(piece.tolist()).decode() for piece in pieces]

    def together(self, work: Callable[[], _T], name: str) -> _T:
        """Returns what `work` returns here, once it is done on all ranks; if it fails on one, all fail.

        Only the first rank that failed tells why. While some ranks are still at work, all of them keep in
        touch, so that writing a checkpoint for minutes is no stall. `work` must not exchange anything.

        Raises:
            FailedElsewhereError: the work failed, and another rank tells why.
            Exception: what `work` raised.
        """
        if self.num_ranks == 1:
            return work()
        with inside(f'at work on "{name}"'):
            return self._together(work, name)

    def _together(self, work: Callable[[], _T], name: str) -> _T:
        # Not `with`: if a rank is lost meanwhile, nobody waits for this one's work.
        pool = ThreadPoolExecutor(1)
        future = pool.submit(work)
        pool.shutdown(wait=False)
        at_work = 1.0
        while at_work:
            done, _ = wait([future], _SECONDS_BETWEEN_SIGNS)
            report = torch.zeros(self.num_ranks + 1)
            report[self.rank] = bool(done) and future.exception() is not None
            report[-1] = not done
            report = self.sum(report, f"together.{name}")
            at_work = float(report[-1])
        error = future.exception()
        # A defect keeps its stack trace on every rank.
        if error is not None and (self.rank == int(report.argmax()) or not isinstance(error, EsmmSparkError)):
            raise error
        if report.any():
            raise FailedElsewhereError
        return future.result()

    def fail_together(self, error: EsmmSparkError) -> NoReturn:
        """Raises an error that every rank has found on the first rank alone, so that it is reported once."""
        raise error if self.is_first else FailedElsewhereError

    @property
    def backend(self) -> str:
        """What Horovod exchanges over, where there are several ranks: `Gloo` or `MPI`, `... and NCCL`."""
        import horovod.torch as hvd

        controller = "MPI" if hvd.mpi_enabled() else "Gloo"
        return f"{controller} and NCCL" if hvd.nccl_built() else controller

    def distributed_optimizer(
        self, optimizer: torch.optim.Optimizer, model: torch.nn.Module
    ) -> torch.optim.Optimizer:
        """Returns an optimizer that steps with all ranks' gradients, summed, from rank 0's parameters."""
        if self.num_ranks == 1:
            return optimizer
        import horovod.torch as hvd

        with waiting("the first exchange of parameters"):
            hvd.broadcast_parameters(dict(model.named_parameters()), root_rank=0)
            hvd.broadcast_parameters(dict(model.named_buffers()), root_rank=0)
        named = list(model.named_parameters())
        wrapped = hvd.DistributedOptimizer(optimizer, named_parameters=named, op=hvd.Sum)
        return cast(torch.optim.Optimizer, wrapped)


@contextmanager
def open_cluster(stall_timeout_s: int) -> Iterator[Cluster]:
    """Yields the ranks of this job; Horovod's own failures inside become RankFailedError.

    Args:
        stall_timeout_s: a rank that the others wait for so long ends the job, from a thread of the watch.

    Raises:
        RankFailedError: another rank ended.
    """
    if "HOROVOD_RANK" not in os.environ:
        yield Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1)
        return
    # The watch tells it better, and whatever Horovod does.
    os.environ.setdefault("HOROVOD_STALL_CHECK_DISABLE", "1")
    import horovod.torch as hvd
    from horovod.common.exceptions import HorovodInternalError

    hvd.init()
    cluster = Cluster(hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size())
    watch = Watch(cluster.rank, cluster.num_ranks, stall_timeout_s)
    try:
        if cluster.num_ranks > 1:
            watch.join(cluster.text_from_first(watch.address, "watch"))
        yield cluster
    except HorovodInternalError as error:
        # horovodrun ends this rank, too, 5 s after it asks to: until then it tells why.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        gone = watch.trouble(_SECONDS_TO_LEARN_WHO) or "another rank ended, or Horovod lost touch with it"
        raise RankFailedError(
            f"rank {cluster.rank} of {cluster.num_ranks} stops: {gone}; the same command goes on from the "
            "newest checkpoint"
        ) from error
    finally:
        with waiting("the end of the job"):
            hvd.shutdown()
        watch.close()
