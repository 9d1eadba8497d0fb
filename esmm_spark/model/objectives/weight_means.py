"""Running means of inverse propensities, by which self-normalised terms divide them.

With w_i = o_i / max(p_i, clip) a self-normalised estimate is sum(w_i e_i) / sum(w_i). The denominator
can't be a batch's own: its share of a batch on a rank would make gradients depend on the number of ranks, and
with few clicks it is noisy. So it is the mean of w over the impressions of all ranks, of the steps before:

    mean <- mean + max(1 / steps, 1 / 100) (mean over the step's impressions - mean)

the plain mean over the first 100 steps, then one that forgets: p changes while it is trained. The first step
divides by 1. The means are part of a run's state, so that a resumed run goes on with them.

Source: Swaminathan and Joachims, "The Self-Normalized Estimator for Counterfactual Learning", NIPS 2015.
"""

from collections.abc import Sequence

import numpy as np

from esmm_spark.model.objectives.spec import LossSpec
from esmm_spark.model.objectives.term_kernels import MEAN, MEAN_OF_REST

_LEAST_RATE = 0.01
_MEANS = slice(MEAN, MEAN_OF_REST + 1)


def weight_sums(spec: LossSpec) -> list[float]:
    """Returns the sums of the loss's last call, two of each normalized term: parent happened, and not."""
    return [float(total) for total in spec.weight_sums[spec.normalized > 0].ravel()]


def moved_means(
    means: Sequence[float], sums: Sequence[float], num_impressions: int, num_steps: int
) -> list[float]:
    """Returns the running means after one more step.

    Args:
        means: before it; empty before the first.
        sums: over the impressions of the step, of all ranks.
        num_impressions: of the step, of all ranks.
        num_steps: how many there are with this one.
    """
    of_step = [total / num_impressions for total in sums]
    rate = max(1 / num_steps, _LEAST_RATE)
    before = means or of_step
    return [mean + rate * (own - mean) for mean, own in zip(before, of_step, strict=True)]


def divide_by(spec: LossSpec, means: Sequence[float]) -> None:
    """Makes the terms of `spec` divide by these means; by 1 where there are none yet, or nothing happened."""
    if means:
        own = np.array(means).reshape(-1, 2)
        spec.factors[spec.normalized > 0, _MEANS] = np.where(own > 0, own, 1.0)
