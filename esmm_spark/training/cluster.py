"""The ranks of one training job and what they tell each other.

A job started with `horovodrun` has several ranks that talk over Horovod; started with plain `python` it is
one rank and Horovod is not even imported. All ranks fail together: when one ends, its peers' next exchange
raises `RankFailedError`, and one that no longer answers is given up on after `stall_timeout_s`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch

from esmm_spark.errors import EsmmSparkError, RankFailedError
from esmm_spark.training.launch import FailedElsewhereError

# A rank that works for long says so this often.
_SECONDS_BETWEEN_SIGNS = 1.0

T = TypeVar("T")


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
        return lambda: cast(torch.Tensor, hvd.synchronize(handle))

    def from_first(self, value: int, name: str) -> int:
        """Returns rank 0's `value` on every rank."""
        if self.num_ranks == 1:
            return value
        import horovod.torch as hvd

        return int(hvd.broadcast(torch.tensor([value], dtype=torch.int64), root_rank=0, name=name).item())

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
        return bytes(hvd.broadcast(received, root_rank=0, name=name).tolist()).decode()

    def together(self, work: Callable[[], T], name: str) -> T:
        """Returns what `work` returns here, once it is done on all ranks; if it fails on one, all fail.

        Only the first rank that failed tells why. While some ranks are still at work, all of them keep in
        touch, so that writing a checkpoint for minutes is no stall. `work` must not exchange anything.

        Raises:
            FailedElsewhereError: the work failed, and another rank tells why.
            Exception: what `work` raised.
        """
        if self.num_ranks == 1:
            return work()
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

    def distributed_optimizer(
        self, optimizer: torch.optim.Optimizer, named_parameters: Mapping[str, torch.nn.Parameter]
    ) -> torch.optim.Optimizer:
        """Returns an optimizer that steps with the sum of all ranks' gradients, from rank 0's parameters."""
        if self.num_ranks == 1:
            return optimizer
        import horovod.torch as hvd

        hvd.broadcast_parameters(dict(named_parameters), root_rank=0)
        wrapped = hvd.DistributedOptimizer(optimizer, named_parameters=named_parameters.items(), op=hvd.Sum)
        return cast(torch.optim.Optimizer, wrapped)


@contextmanager
def open_cluster(stall_timeout_s: int) -> Iterator[Cluster]:
    """Yields the ranks of this job; Horovod's own failures inside become RankFailedError.

    Args:
        stall_timeout_s: after this many seconds without an answer from some rank, all ranks stop.

    Raises:
        RankFailedError: another rank ended or no longer answers.
    """
    if "HOROVOD_RANK" not in os.environ:
        yield Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1)
        return
    os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", str(max(1, stall_timeout_s // 2)))
    os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", str(stall_timeout_s))
    import horovod.torch as hvd
    from horovod.common.exceptions import HorovodInternalError

    hvd.init()
    try:
        yield Cluster(hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size())
    except HorovodInternalError as error:
        raise RankFailedError(
            f"rank {hvd.rank()} of {hvd.size()} stops: another rank ended, or did not answer within "
            f"{stall_timeout_s} s; the same command goes on from the newest checkpoint"
        ) from error
    finally:
        hvd.shutdown()
