"""Estimates the memory that a model takes, before it is allocated."""

import torch
from torch import Tensor

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.model.embedding.embedded import ValueSequence
from esmm_spark.model.embedding.row_optimizer import row_optimizer_of
from esmm_spark.model.embedding.sharding import num_local_rows
from esmm_spark.model.esmm import Esmm, build_esmm
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
    impressions = -(-config.train.batch_size // cluster.num_ranks)
    parameters, kept = _network_need(config, impressions)
    towers = parameters * _COPIES * _FLOAT_BYTES
    on_gpu = device.type == "cuda"
    ranks = 1 if on_gpu else cluster.local_ranks
    limit = torch.cuda.get_device_properties(device).total_memory if on_gpu else memory_limit_bytes()
    needed = ranks * (arena + towers + kept)
    if needed > limit:
        host = "this host" if ranks == 1 else f"this host, which {ranks} ranks share,"
        rows_text = (
            f"{rows:,} rows x (dim {config.model.dim} + {state_width} of {config.train.embedding_optimizer}) "
            "x 4 bytes"
        )
        step = f", the layers of a step of {impressions:,} impressions {_gib(ranks * kept)}" if kept else ""
        raise ConfigError(
            f"the model takes {_gib(needed)}, {'a GPU' if on_gpu else host} has {_gib(limit)}: the embedding "
            f"{_gib(ranks * arena)} ({rows_text} over {cluster.num_ranks} ranks), the towers with Adam "
            f"{_gib(ranks * towers)}{step}: lower features.tables.*.num_buckets, model.dim, the network's "
            f"widths or experts{' or train.batch_size' if kept else ''}, or train on more hosts"
        )


def _network_need(config: Config, impressions: int) -> tuple[int, int]:
    """Returns how many numbers the network has, and the bytes that a step keeps for its backward pass.

    Both are worked out without their memory. 0 where that can't be: what is wrong with a network is reported
    where it is really built; a fused one keeps nothing.
    """
    try:
        with torch.device("meta"):
            model = build_esmm(config.model, config.features, config.objective)
            parameters = sum(parameter.numel() for parameter in model.parameters())
    except Exception:
        return 0, 0
    try:
        is_fused = model.why_not_fused(torch.empty(0)) is None
        return parameters, 0 if is_fused else _kept_bytes(model, config, impressions)
    except Exception:
        return parameters, 0


def _kept_bytes(model: Esmm, config: Config, impressions: int) -> int:
    """Returns the bytes of what autograd keeps of a forward pass of a model on the meta device."""
    width = config.model.dim * config.objective.num_embeddings
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        context = torch.zeros(1, len(config.features.pooled_context_fields), width)
        impression = torch.zeros(impressions, len(config.features.impression_fields), width)
        lengths = [field.max_length or 1 for field in config.features.sequence_fields]
        sequences = [ValueSequence(torch.zeros(1, n, width), torch.ones(1, n).bool()) for n in lengths]
        model(context, impression, torch.zeros(1, dtype=torch.int64), sequences)
    return sum(kept.values())


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
