"""Folders that all ranks write together, each its shard."""

from collections.abc import Callable

from esmm_spark import storage
from esmm_spark.errors import UserError
from esmm_spark.training.cluster import Cluster

CHECKPOINTS = "checkpoints"
BEST_PREFIX = "best-"


def best_name(run_number: int) -> str:
    """Returns the name, among the checkpoints, of a run's best model so far: `best-0001`."""
    return f"{BEST_PREFIX}{run_number:04d}"


def write_folder(
    target: str, write_shard: Callable[[str], None], write_rest: Callable[[str], None], cluster: Cluster
) -> None:
    """Writes a folder that all ranks contribute to, and puts it in the place of `target`.

    Args:
        target: the folder.
        write_shard: called on every rank with the staging folder.
        write_rest: called on the first rank with the staging folder, once all shards are written.
        cluster: the ranks.

    Raises:
        UserError: the file system refuses, for example because it is full; what was there before stays.
    """
    staging = storage.staging_path(target)

    def begin() -> None:
        storage.delete(staging)
        storage.make_directory(staging)

    def finish() -> None:
        write_rest(staging)
        storage.write_text(storage.join(staging, storage.MARKER), "")
        storage.replace_directory(target)

    def told(work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            raise UserError(
                f"can't write {target}: {error}: make room or mend the access, and the same command goes on "
                "from the newest checkpoint"
            ) from error

    cluster.together(lambda: told(begin) if cluster.is_first else None, "folder.begin")
    cluster.together(lambda: told(lambda: write_shard(staging)), "folder.shards")
    cluster.together(lambda: told(finish) if cluster.is_first else None, "folder.end")
