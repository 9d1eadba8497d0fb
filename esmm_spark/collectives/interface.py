"""The collective operations that training is made of, whichever library carries them out.

Shapes: R ranks; S, T rows of a tensor that this rank sends and receives.
"""

from typing import Protocol, TypeVar

from torch import Tensor

T_co = TypeVar("T_co", covariant=True)


class LostTouchError(Exception):
    """A collective operation failed: another rank ended, or can't be reached any more."""


class Pending(Protocol[T_co]):
    """A collective operation that has been started."""

    def result(self) -> T_co:
        """Waits for the operation and returns what it gives; to be called once. Raises LostTouchError."""
        ...


class Collectives(Protocol):
    """This rank's place among the ranks of the job, and their collective operations.

    All ranks start the same operations. `name` is the same on all of them, and of no other operation that is
    on its way.
    """

    @property
    def rank(self) -> int:
        """This rank, [0, num_ranks)."""
        ...

    @property
    def num_ranks(self) -> int:
        """R."""
        ...

    @property
    def local_rank(self) -> int:
        """This rank among those of its host."""
        ...

    @property
    def local_ranks(self) -> int:
        """Ranks on this host."""
        ...

    @property
    def library(self) -> str:
        """What carries the operations out, for people: `Horovod over Gloo`."""
        ...

    @property
    def matched_by_name(self) -> bool:
        """Whether ranks may start operations in different orders. If not, the order is what matches them."""
        ...

    def alltoall(
        self, tensor: Tensor, splits: Tensor, name: str, received_splits: Tensor | None = None
    ) -> Pending[tuple[Tensor, Tensor]]:
        """Starts to send a part of `tensor` to each rank; gives what all ranks sent here, and its splits.

        That is [T, ...], in the order of ranks, and [R] int32 on the CPU, rows that each sent, with sum T.

        Args:
            tensor: [S, ...], contiguous: first the rows for rank 0, then those for rank 1, ...
            splits: [R] int32 on the CPU, rows for each rank, with sum S.
            name: of the operation.
            received_splits: [R] int32, how many rows each rank sends here, where that is known: it spares
                some libraries a message.
        """
        ...

    def sum(self, tensor: Tensor, name: str) -> Pending[Tensor]:
        """Starts to overwrite `tensor`, of the same shape on all ranks, with the sum over them; gives it."""
        ...

    def broadcast(self, tensor: Tensor, name: str) -> None:
        """Overwrites `tensor`, of the same shape on all ranks, with rank 0's. Raises LostTouchError."""
        ...

    def close(self) -> None:
        """Ends what this rank has of the library, after the last operation or a failure."""
        ...
