"""Communication of the ranks of one training job.

A job started by the launcher of `train.backend` has several ranks that talk by its collective operations;
started with plain `python` it is one rank, and no such library is even imported. All ranks fail together:
when one ends, its peers' next exchange raises `RankFailedError`, and one that the others wait for in vain is
given up on after `stall_timeout_s`, by a watch of our own (watch.py).
"""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import torch

from esmm_spark.collectives.interface import Collectives, LostTouchError
from esmm_spark.contracts.errors import EsmmSparkError, RankFailedError
from esmm_spark.contracts.train_config import Backend, Train
from esmm_spark.runtime.activity import inside, waiting
from esmm_spark.training.ranks.judge import stops
from esmm_spark.training.ranks.launch import FailedElsewhereError, is_launched
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
        collectives: what they exchange by; None for a rank alone.
    """

    rank: int
    num_ranks: int
    local_rank: int
    local_ranks: int
    collectives: Collectives | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that reports and writes what only one may write."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        """Returns `tensor`, overwritten on every rank with the sum over the ranks, element by element."""
        return self.sum_later(tensor, name)()

    def sum_later(self, tensor: torch.Tensor, name: str) -> Callable[[], torch.Tensor]:
        """Starts `sum` and returns the function that waits for its result; until then `tensor` is in use."""
        if self.collectives is None:
            return lambda: tensor
        pending = self.collectives.sum(tensor, name)

        def wait_for_sum() -> torch.Tensor:
            with waiting(f'exchange "{name}"'):
                return pending.result()

        return wait_for_sum

    def from_first(self, value: int, name: str) -> int:
        """Returns rank 0's `value` on every rank."""
        return int(self._broadcast(torch.tensor([value], dtype=torch.int64), name).item())

    def text_from_first(self, text: str, name: str) -> str:
        """Returns rank 0's `text` on every rank."""
        content = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = self.from_first(len(content), f"{name}.length")
        received = content if self.is_first else torch.zeros(length, dtype=torch.uint8)
        return bytes(self._broadcast(received, name).tolist()).decode() if length else ""

    def _broadcast(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        if self.collectives is not None:
            with waiting(f'exchange "{name}"'):
                self.collectives.broadcast(tensor, name)
        return tensor

    def texts(self, text: str, name: str) -> list[str]:
        """Returns each rank's `text`, in the order of ranks, on every rank."""
        # Lengths first; then each rank adds its part to a sum of zeros. Horovod sums no uint8.
        content = torch.tensor(list(text.encode()), dtype=torch.int32)
        lengths = torch.zeros(self.num_ranks, dtype=torch.int64)
        lengths[self.rank] = len(content)
        lengths = self.sum(lengths, f"{name}.length")
        joined = torch.zeros(int(lengths.sum()), dtype=torch.int32)
        pieces = torch.split(joined, lengths.tolist())
        pieces[self.rank].copy_(content)
        if len(joined):
            self.sum(joined, name)
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

    def share_parameters(self, model: torch.nn.Module) -> None:
        """Overwrites a model's parameters and buffers with rank 0's on every rank."""
        if self.collectives is None:
            return
        named = dict([*model.named_parameters(), *model.named_buffers()])
        with waiting("the first exchange of parameters"):
            for name, tensor in named.items():
                if tensor.numel():
                    self.collectives.broadcast(tensor.data, f"first.{name}")


@contextmanager
def open_cluster(train: Train) -> Iterator[Cluster]:
    """Yields the ranks of this job; where one loses touch with another it becomes RankFailedError.

    Args:
        train: its backend; a rank that the others wait for longer than its `stall_timeout_s` ends the job,
            from a thread of the watch.

    Raises:
        RankFailedError: another rank ended.
    """
    if not is_launched(train.backend):
        yield Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1)
        return
    collectives = _collectives(train.backend)
    shared = collectives if collectives.num_ranks > 1 else None
    place = collectives.rank, collectives.num_ranks, collectives.local_rank, collectives.local_ranks
    cluster = Cluster(*place, shared)
    watch = Watch(cluster.rank, cluster.num_ranks, train.stall_timeout_s)
    in_touch = True
    try:
        if cluster.num_ranks > 1:
            watch.join(cluster.text_from_first(watch.address, "watch"))
        yield cluster
    except LostTouchError as error:
        in_touch = False
        # The launcher ends this rank, too, horovodrun 5 s after it asks to: until then it tells why.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        lost = f"another rank ended, or can't be reached any more ({str(error).splitlines()[0]})"
        gone = watch.trouble(_SECONDS_TO_LEARN_WHO) or lost
        raise RankFailedError(stops(cluster.rank, cluster.num_ranks, gone)) from error
    finally:
        # Of three ranks and more, one that has not lost touch may wait for this one, and this one for it.
        if in_touch:
            with waiting("the end of the job"):
                collectives.close()
        watch.close()


def _collectives(backend: Backend) -> Collectives:
    """Returns the backend's collective operations, once all ranks have met. Imports no other library."""
    if backend == "torch":
        from esmm_spark.collectives.torch_collectives import TorchCollectives

        return TorchCollectives()
    from esmm_spark.collectives.horovod_collectives import HorovodCollectives

    return HorovodCollectives()
