"""The log line that names the kernels of a training run."""

import torch

from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.esmm import Esmm
from esmm_spark.training.ranks.cluster import Cluster


def kernels_line(model: Esmm, arena: EmbeddingArena, cluster: Cluster, bfloat16: bool) -> str:
    """Returns what serves the towers, the embedding and the exchange between ranks.

    Example: `towers: fused, MKL, float32; embedding: compiled, cpu; ranks: 2, Horovod over Gloo`.

    Args:
        model: the dense part.
        arena: this rank's rows.
        cluster: the ranks.
        bfloat16: `train.bf16`.
    """
    precision = "bfloat16" if bfloat16 else "float32"
    with torch.enable_grad(), torch.autocast(arena.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        why = model.why_not_fused(torch.empty(0, device=arena.device))
    library = "MKL and oneDNN" if bfloat16 else "MKL"
    towers = f"fused, {library}, {precision}" if why is None else f"torch, {precision}, because {why}"
    ranks = f"{cluster.num_ranks}, {cluster.collectives.library}" if cluster.collectives else "1"
    return f"towers: {towers}; embedding: {arena.kernel}, {arena.device.type}; ranks: {ranks}"
