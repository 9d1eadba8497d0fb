"""Folders that all ranks write together, a shard each, under one run's lease."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from esmm_spark.contracts.schemas.layout import CHECKPOINTS, EMBEDDING, TENSORBOARD, VERSIONS
from esmm_spark.files import replacing, storage
from esmm_spark.files.lease import Lease, leased
from esmm_spark.files.write_errors import require_writable, told_in_one_line
from esmm_spark.model.shards import shard_name
from esmm_spark.training.ranks.cluster import Cluster

BEST_PREFIX = "best-"

_LEASE = ".train.lease"

_T = TypeVar("_T")


def best_name(run_number: int) -> str:
    """Returns the name, among the checkpoints, of a run's best model so far: `best-0001`."""
    return f"{BEST_PREFIX}{run_number:04d}"


@dataclass(frozen=True)
class ModelLease:
    """A run's right to write `paths.model`.

    Attributes:
        root: `paths.model`.
        run: the run's name, alike on all ranks.
        lease: on the first rank; None on the others.
    """

    root: str
    run: str
    lease: Lease | None


@contextmanager
def model_lease(root: str, cluster: Cluster) -> Iterator[ModelLease]:
    """Yields the right to write the models' folder, once every rank has tried. All ranks call this together.

    Raises:
        TargetBusyError: another run trains there.
        InputError, UnwritableError: a rank can't write there.
    """

    def require_all_writable() -> None:
        name = f"{secrets.token_hex(4)}-{cluster.rank}"
        require_writable(root, "paths.model", name)
        for folder in (CHECKPOINTS, VERSIONS, TENSORBOARD):
            if storage.exists(storage.join(root, folder)):
                require_writable(storage.join(root, folder), "paths.model", name)

    def begin() -> Lease | None:
        uri = storage.join(storage.resolved(root), _LEASE)
        return leases.enter_context(leased(uri, f"paths.model {root}")) if cluster.is_first else None

    with ExitStack() as leases:
        cluster.together(require_all_writable, "model.writable")
        lease = cluster.together(begin, "model.lease")
        run = cluster.text_from_first(lease.run if lease is not None else "", "model.run")
        yield ModelLease(root, run, lease)


def write_folder(
    target: str,
    write_shard: Callable[[str], None],
    write_rest: Callable[[str], None],
    rest: Sequence[str],
    cluster: Cluster,
    holder: ModelLease,
) -> None:
    """Writes a folder that all ranks contribute to, and puts it in the place of `target`.

    Args:
        target: the folder, below `paths.model`.
        write_shard: called on every rank with the staging folder.
        write_rest: called on the first rank with the staging folder, once all shards are written.
        rest: the names of the files that `write_rest` writes.
        cluster: the ranks.
        holder: this run's right to do so.

    Raises:
        UnwritableError: the file system refuses, for example because it is full; what was there before stays.
        LeaseLostError: another run took the models' folder over.
    """
    shards = [shard_name(rank, cluster.num_ranks) for rank in range(cluster.num_ranks)]
    ours = (*rest, f"{EMBEDDING}/shard-*")
    staging = replacing.staging_path(target, holder.run)

    def begin() -> replacing.Replacement | None:
        return replacing.begin(target, "paths.model", ours, holder.lease) if holder.lease else None

    def finish() -> None:
        if new is not None:
            write_rest(staging)
            new.files = [*shards, *rest]
            new.publish()

    what = f"paths.model {target}"
    new = cluster.together(lambda: told(what, begin), "folder.begin")
    cluster.together(lambda: told(what, lambda: write_shard(staging)), "folder.shards")
    cluster.together(lambda: told(what, finish), "folder.end")


def told(what: str, work: Callable[[], _T]) -> _T:
    """Returns what `work` returns; its failed writes are user errors of one line."""
    with told_in_one_line(what):
        return work()
