"""Estimates the memory that a model takes, before it is allocated."""

import torch

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.model.embedding.row_optimizer import row_optimizer_of
from esmm_spark.model.embedding.sharding import num_local_rows
from esmm_spark.model.esmm import build_esmm
from esmm_spark.runtime.memory import memory_limit_bytes
from esmm_spark.training.ranks.cluster import Cluster

_FLOAT_BYTES = 4
# A parameter, its gradient, and Adam's two moments.
_COPIES = 4


def require_memory(config: Config, cluster: Cluster, device: torch.device) -> None:
    """Raises ConfigError if the model is larger than the memory where it is to lie.

    Args:
        config: the whole config.
        cluster: the ranks: those of a host share its memory, each GPU has its own.
        device: where this rank computes.
    """
    rows = config.features.num_rows * config.objective.num_embeddings
    state_width = row_optimizer_of(config.train).state_width(config.model.dim)
    arena = num_local_rows(rows, 0, cluster.num_ranks) * (config.model.dim + state_width) * _FLOAT_BYTES
    towers = _tower_parameters(config) * _COPIES * _FLOAT_BYTES
    on_gpu = device.type == "cuda"
    ranks = 1 if on_gpu else cluster.local_ranks
    limit = torch.cuda.get_device_properties(device).total_memory if on_gpu else memory_limit_bytes()
    needed = ranks * (arena + towers)
    if needed > limit:
        host = "this host" if ranks == 1 else f"this host, which {ranks} ranks share,"
        rows_text = (
            f"{rows:,} rows x (dim {config.model.dim} + {state_width} of {config.train.embedding_optimizer}) "
            "x 4 bytes"
        )
        raise ConfigError(
            f"the model takes {_gib(needed)}, {'a GPU' if on_gpu else host} has {_gib(limit)}: the embedding "
            f"{_gib(ranks * arena)} ({rows_text} over {cluster.num_ranks} ranks), the towers with Adam "
            f"{_gib(ranks * towers)}: lower features.tables.*.num_buckets, model.dim or the towers' widths, "
            "or train on more hosts"
        )


def _tower_parameters(config: Config) -> int:
    """Returns how many numbers all towers have; 0 where a network can't be built without its memory."""
    try:
        with torch.device("meta"):
            model = build_esmm(config.model, config.features, config.objective)
        return sum(parameter.numel() for parameter in model.parameters())
    except Exception:
        # What is wrong with it is told where it is really built.
        return 0


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
