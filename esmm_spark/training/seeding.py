"""Random numbers as a function of the position in a run."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmm_spark.model.kernels.mixing import STEP, mix64, signed


def impression_keys(
    seed: int, global_step: int, places: npt.NDArray[np.int64], device: torch.device
) -> Tensor:
    """Returns [N] int64, hashes of each impression's place in a step, the same for any number of ranks.

    Args:
        seed: `train.seed`.
        global_step: steps of the whole run before this one.
        places: [N] as of `EpochPlan.places`.
        device: where the keys go.
    """
    of_run = mix64(torch.tensor([seed % 2**63], device=device))
    of_step = mix64(of_run + signed((global_step + 1) * STEP))
    return mix64(of_step + (torch.from_numpy(places).to(device) + 1) * STEP)


def seed_at(seed: int, global_step: int, rank: int, device: torch.device) -> None:
    """Seeds torch by position, so that a network that draws from it gives the same in a resumed run.

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
