"""The embedding's files in a version or a checkpoint: one for each rank that trained it."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.schemas.layout import EMBEDDING
from esmm_spark.files import filesystems, storage
from esmm_spark.files.tensor_file import map_tensors, write_tensors
from esmm_spark.model.embedding.sharding import ShardedRows, num_local_rows


def shard_name(rank: int, num_ranks: int) -> str:
    """Returns a shard's path in a version or checkpoint: `embedding/shard-00000-of-00002.safetensors`."""
    return f"{EMBEDDING}/shard-{rank:05d}-of-{num_ranks:05d}.safetensors"


def write_shard(
    directory: str, rows: Tensor, rank: int, num_ranks: int, more: Mapping[str, Tensor] | None = None
) -> None:
    """Writes one rank's rows into the folder `directory`; every rank calls it.

    Args:
        directory: of `begin_version`, or a checkpoint.
        rows: [L, D] float32, `EmbeddingArena.local_rows()`.
        rank: this rank.
        num_ranks: ranks that share the arena.
        more: more tensors for the same file, e.g. the optimizer's state in a checkpoint.
    """
    write_tensors(storage.join(directory, shard_name(rank, num_ranks)), {"rows": rows, **(more or {})})


def open_shards(
    local: str,
    tensor: str,
    num_rows: int,
    row_shape: tuple[int, ...],
    num_shards: int,
    needed: int | None = None,
) -> ShardedRows:
    """Returns one tensor of all shards in the local folder `local`, memory-mapped.

    Args:
        local: a version or a checkpoint.
        tensor: its name in the shards: `rows`, or one that only a checkpoint has.
        num_rows: rows over all shards.
        row_shape: shape of a row: (dim,), or () where each row has one number.
        num_shards: files.
        needed: the only shard that will be read, if it is one: then the checksums of no other are compared.

    Raises:
        InputError: a shard is missing, truncated or corrupt, or of another shape.
    """
    shards = []
    for rank in range(num_shards):
        path = storage.join(filesystems.filesystem_of(local)[1], shard_name(rank, num_shards))
        arrays = map_tensors(path, (tensor,), compare=needed in (None, rank))
        expected = (num_local_rows(num_rows, rank, num_shards), *row_shape)
        found = arrays[tensor].shape if tensor in arrays else None
        if found != expected or arrays[tensor].dtype != np.float32:
            raise InputError(f"{path}: tensor {tensor} has shape {found}, model.json says {expected} float32")
        shards.append(arrays[tensor])
    return ShardedRows(shards)
