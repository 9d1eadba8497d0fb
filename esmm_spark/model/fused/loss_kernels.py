"""The losses of one impression and their gradients, in float64; called by the fused kernel.

The same as `losses`, with a = ctr_logit, b = cvr_logit and p = sigmoid(a) sigmoid(b). There is no
cancellation, so that logits of any size have the right gradient.
"""

import math

from esmm_spark.model.kernels.compilation import kernel

# The objectives, as kernels are given them.
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
    exp_a, exp_b = math.exp(-abs(a)), math.exp(-abs(b))
    log1p_a, log1p_b = math.log1p(exp_a), math.log1p(exp_b)
    # p and q = 1 - p of each; log p is min(x, 0) - log1p(exp(-|x|)), log q is min(-x, 0) - the same.
    p_a, q_a = _sigmoids(a, exp_a)
    p_b, q_b = _sigmoids(b, exp_b)
    loss = log1p_a - min(a if click > 0 else -a, 0.0)
    grad_a = -q_a if click > 0 else p_a
    if objective == BASE:
        if click > 0:
            grad_b = -q_b if conversion > 0 else p_b
            return loss + log1p_b - min(b if conversion > 0 else -b, 0.0), grad_a, grad_b
        # A NaN must reach the loss, though the loss does not depend on this impression's CVR logit.
        return loss + 0.0 * b, grad_a, 0.0
    log_p = min(a, 0.0) - log1p_a + min(b, 0.0) - log1p_b
    if click * conversion > 0:
        return loss - log_p, grad_a - q_a, -q_b
    p = p_a * p_b
    if p < 0.5:
        odds = p / (1.0 - p)
        return loss - math.log1p(-p), grad_a + odds * q_a, odds * q_b
    # 1 - p underflows where both logits are above 700: exp(-low) is factored out of it.
    low, high = min(a, b), max(a, b)
    ratio = math.exp(low - high) + math.exp(-high)
    log_q = math.log1p(ratio) - low + log_p
    grad_a += math.exp(low - a) * p_a / (1.0 + ratio)
    return loss - log_q, grad_a, math.exp(low - b) * p_b / (1.0 + ratio)


@kernel
def _sigmoids(x: float, exp_x: float) -> tuple[float, float]:
    """Returns sigmoid(x) and sigmoid(-x); `exp_x` is exp(-|x|)."""
    large, small = 1.0 / (1.0 + exp_x), exp_x / (1.0 + exp_x)
    if x < 0:
        return small, large
    return large, small
