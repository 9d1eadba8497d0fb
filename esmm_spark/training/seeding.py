"""Seeds torch's random state by the position in a run."""

import torch


def seed_at(seed: int, global_step: int, rank: int, device: torch.device) -> None:
    """Seeds torch by position, so that a network with dropout gives the same in a resumed run.

    Args:
        seed: `train.seed`.
        global_step: steps of the whole run before this one.
        rank: this rank.
        device: where it computes.
    """
    seed = (seed * 1_000_003 + global_step * 1009 + rank) % 2**63
    if device.type == "cpu":
        # `torch.manual_seed` notes a stack trace for each kind of device that isn't there: 2% of a step.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
