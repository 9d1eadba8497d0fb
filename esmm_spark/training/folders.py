"""Folders that all ranks write together, each its shard."""

from collections.abc import Callable

from esmm_spark import storage
from esmm_spark.errors import UserError
from esmm_spark.training.cluster import Cluster

CHECKPOINTS = "checkpoints"


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
    try:
        _write_folder(target, write_shard, write_rest, cluster)
    except OSError as error:
        raise UserError(
            f"can't write {target}: {error}: make room or mend the access, and the same command goes on from "
            "the newest checkpoint"
        ) from error


def _write_folder(
    target: str, write_shard: Callable[[str], None], write_rest: Callable[[str], None], cluster: Cluster
) -> None:
    staging = storage.staging_path(target)
    if cluster.is_first:
        storage.delete(staging)
        storage.make_directory(staging)
    cluster.barrier("folder.begin")
    write_shard(staging)
    cluster.barrier("folder.shards")
    if cluster.is_first:
        write_rest(staging)
        storage.write_text(storage.join(staging, storage.MARKER), "")
        storage.replace_directory(target)
    cluster.barrier("folder.end")
