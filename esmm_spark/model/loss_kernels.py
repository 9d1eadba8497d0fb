"""The losses of one impression and their gradients, in float64, compiled into the kernel that trains.

The same as `losses`, with a = ctr_logit, b = cvr_logit and p = sigmoid(a) sigmoid(b): no difference of
numbers near to each other is taken, so that logits of any size have the right gradient.
"""

import math

from esmm_spark.model.kernels import kernel

# The objectives, as kernels are told them.
ESMM, BASE = 0, 1


@kernel
def loss_and_gradients(
    objective: int, a: float, b: float, click: float, conversion: float
) -> tuple[float, float, float]:
    """Returns the loss of an impression and its gradients, of `a` and of `b`: see `losses`.

    Args:
        objective: ESMM or BASE.
        a: the CTR logit.
        b: the CVR logit.
        click: 0 or 1.
        conversion: 0 or 1.
    """
    small_a, small_b = math.exp(-abs(a)), math.exp(-abs(b))
    rest_a, rest_b = math.log1p(small_a), math.log1p(small_b)
    # The probability and its complement; log p is min(x, 0) - rest, log (1 - p) is min(-x, 0) - rest.
    yes_a, no_a = _sides(a, small_a)
    yes_b, no_b = _sides(b, small_b)
    loss = rest_a - min(a if click > 0 else -a, 0.0)
    of_a = -no_a if click > 0 else yes_a
    if objective == BASE:
        if click > 0:
            of_b = -no_b if conversion > 0 else yes_b
            return loss + rest_b - min(b if conversion > 0 else -b, 0.0), of_a, of_b
        # A logit that is no number must show, though this impression's is not asked for.
        return loss + 0.0 * b, of_a, 0.0
    log_p = min(a, 0.0) - rest_a + min(b, 0.0) - rest_b
    if click * conversion > 0:
        return loss - log_p, of_a - no_a, -no_b
    p = yes_a * yes_b
    if p < 0.5:
        odds = p / (1.0 - p)
        return loss - math.log1p(-p), of_a + odds * no_a, odds * no_b
    # 1 - p vanishes in float64 where both logits are above 700: exp(-low) is taken out of it.
    low, high = min(a, b), max(a, b)
    beside = math.exp(low - high) + math.exp(-high)
    log_rest = math.log1p(beside) - low + log_p
    of_a += math.exp(low - a) * yes_a / (1.0 + beside)
    return loss - log_rest, of_a, math.exp(low - b) * yes_b / (1.0 + beside)


@kernel
def _sides(x: float, small: float) -> tuple[float, float]:
    """Returns sigmoid(x) and 1 - sigmoid(x); `small` is exp(-|x|)."""
    large, little = 1.0 / (1.0 + small), small / (1.0 + small)
    if x < 0:
        return little, large
    return large, little
