"""Two ranks in one process: the other one's tensors are this one's."""

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor

_T = TypeVar("_T")


class Later(Generic[_T]):
    """An operation that happens when its result is asked for."""

    def __init__(self, operation: Callable[[], _T]) -> None:
        self._operation = operation

    def result(self) -> _T:
        """Returns what the operation gives."""
        return self._operation()


class Mirror:
    """The first of two ranks, of which the second does the same with the same numbers."""

    rank, num_ranks, local_rank, local_ranks, library = 0, 2, 0, 2, "Mirror over Nothing"

    def __init__(self, matched_by_name: bool) -> None:
        self.matched_by_name = matched_by_name
        self.started: list[str] = []

    def alltoall(
        self, tensor: Tensor, splits: Tensor, name: str, received_splits: Tensor | None = None
    ) -> Later[tuple[Tensor, Tensor]]:
        """Receives what it sends to itself, twice."""
        first = tensor[: int(splits[0])]
        return Later(lambda: (first.repeat(2, *[1] * (tensor.dim() - 1)), splits[:1].repeat(2)))

    def sum(self, tensor: Tensor, name: str) -> Later[Tensor]:
        """Doubles the tensor."""
        self.started.append(name)
        return Later(lambda: tensor.mul_(2))

    def broadcast(self, tensor: Tensor, name: str) -> None:
        """Leaves the tensor as it is."""

    def close(self) -> None:
        """Does nothing."""
