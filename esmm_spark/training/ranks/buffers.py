"""Synchronizes buffers of a user's own network over ranks, such as BatchNorm's running statistics."""

import torch
from torch import Tensor, nn

from esmm_spark.training.ranks.cluster import Cluster


@torch.no_grad()
def average_buffers(model: nn.Module, num_steps: int, cluster: Cluster) -> None:
    """Sets buffers of floats to their mean over the ranks, all others to the first rank's.

    A rank counts as often as it has changed its buffers since they were alike: one that had no impressions
    has none of their statistics. Averages that move from step to step by a share of the way, as BatchNorm's
    do, don't depend on how often this is done. All ranks call it together.

    Args:
        model: the same on all ranks.
        num_steps: steps since the last call in which this rank's network was trained on impressions.
        cluster: the ranks.
    """
    buffers = [buffer for buffer in model.buffers() if buffer.numel()]
    if cluster.num_ranks == 1 or not buffers:
        return
    weights = [_weight(buffer, num_steps, cluster.is_first) for buffer in buffers]
    parts = [
        weight * buffer.detach().double().cpu().flatten()
        for weight, buffer in zip(weights, buffers, strict=True)
    ]
    own = torch.cat([*parts, torch.tensor([float(num_steps)], dtype=torch.float64)])
    total = cluster.sum(own, "buffers")
    if not total[-1]:
        return  # unchanged since they were alike
    for buffer, part in zip(
        buffers, torch.split(total[:-1], [buffer.numel() for buffer in buffers]), strict=True
    ):
        mean = part / total[-1] if buffer.is_floating_point() else part
        buffer.copy_(mean.view(buffer.shape))


def _weight(buffer: Tensor, num_steps: int, is_first: bool) -> float:
    return float(num_steps if buffer.is_floating_point() else is_first)
