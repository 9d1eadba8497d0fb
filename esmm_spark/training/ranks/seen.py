"""Checks that the ranks have together seen each impression of the manifest once."""

import torch

from esmm_spark.contracts.errors import CountMismatchError
from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.training.ranks.cluster import Cluster


def sum_seen(cluster: Cluster, impressions: int, hash_sum: int) -> tuple[int, int]:
    """Returns impressions and group hash sum over all ranks, which call this together.

    Args:
        cluster: the ranks.
        impressions: that this rank has seen.
        hash_sum: of the groups that this rank has seen, modulo 2^64, signed.
    """
    own = torch.tensor([impressions, hash_sum], dtype=torch.int64)
    all_impressions, all_hashes = cluster.sum(own, "seen").tolist()
    return all_impressions, all_hashes


def require_all_seen(
    cluster: Cluster, what: str, impressions: int, hash_sum: int, counts: PartitionCounts
) -> None:
    """Raises CountMismatchError unless all ranks' counts add up to the manifest's. All call this together.

    Args:
        cluster: the ranks.
        what: was read, for the message: `epoch 2`, `validation`.
        impressions: that this rank has seen.
        hash_sum: of the groups that this rank has seen, modulo 2^64, signed.
        counts: what the manifest says.
    """
    seen = sum_seen(cluster, impressions, hash_sum)
    if seen != (counts.impressions, counts.group_hash_sum):
        cluster.fail_together(
            CountMismatchError(
                f"{what} saw {seen[0]:,} impressions with group hash sum {seen[1]}, the manifest says "
                f"{counts.impressions:,} with {counts.group_hash_sum}"
            )
        )
