"""The learning rates of a step as a function of its position alone, as a resumed run needs it."""

import math

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.train_config import Train


def learning_rate_factor(train: Train, global_step: int, num_steps: int) -> float:
    """Returns what both learning rates are multiplied by in a step.

    With W = `warmup_steps` and T = `num_steps`, step t of 0 to T - 1 has

        (t + 1) / W                              where t < W
        1                                        else, for `none`
        1 - p,  p = (t - W) / (T - W)            for `linear`
        (1 + cos(pi p)) / 2                      for `cosine`

    Args:
        train: says how they rise and fall.
        global_step: t, steps of the whole run before this one.
        num_steps: T, of the whole run.

    Example: of 6 steps with `warmup_steps: 2` and `linear`: 1/2, 1, 1, 3/4, 1/2, 1/4.

    Source: warm-up: Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2; cosine: Loshchilov and
        Hutter, "SGDR", ICLR 2017, equation 5, without restarts, down to 0.
    """
    if global_step < train.warmup_steps:
        return (global_step + 1) / train.warmup_steps
    if train.learning_rate_decay == "none":
        return 1.0
    progress = (global_step - train.warmup_steps) / (num_steps - train.warmup_steps)
    if train.learning_rate_decay == "linear":
        return 1.0 - progress
    return (1.0 + math.cos(math.pi * progress)) / 2


def require_warm(train: Train, num_impressions: int) -> None:
    """Raises ConfigError if a run would end before its learning rates have risen.

    Args:
        train: the settings.
        num_impressions: of the training partition.
    """
    steps = train.epochs * -(-num_impressions // train.batch_size)
    if train.warmup_steps and train.warmup_steps >= steps:
        raise ConfigError(
            f"train.warmup_steps = {train.warmup_steps:,} >= the run's {steps:,} steps (train.epochs = "
            f"{train.epochs} of {num_impressions:,} impressions in batches of {train.batch_size:,}): lower it"
        )
