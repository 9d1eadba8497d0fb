"""The loss of an impression and its gradients, of any terms; called by the fused kernel.

`pointwise` says the same in torch. Nothing cancels, so that logits of any size have the right gradient: with
p_h = sigmoid(x_h), q_h = 1 - p_h, e_h = exp(-x_h) and p the product of the p_h of a chain of heads,

    d log p / dx_h       =  q_h
    d log(1 - p) / dx_h  = -q_h p / (1 - p)
    (1 - p) / p          =  (1 + e_1) (1 + e_2) ... - 1

where p is above 1/2 the last is summed up head by head, of positive numbers, with exp(-x_h) of the lowest
logit factored out, as it may underflow. Exponentials are of the logits' precision, float32 in training, what
is made of them is in float64.

Shapes: n impressions, H heads, K tasks, C carried columns, T terms.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from esmm_spark.model.kernels.compilation import Floats, kernel
from esmm_spark.model.objectives.spec import COUNTERFACTUAL, IMPUTATION, NONE, LossSpec

Doubles = npt.NDArray[np.float64]

# What is held of each head: [HEAD_ROWS, H], its p, 1 - p, the logarithms of both, and its gradient.
HEAD_ROWS = 5
_P, _Q, _LOG_P, _LOG_Q, _GRADIENT = range(HEAD_ROWS)
# The columns of `LossSpec.factors`.
_WEIGHT, _POSITIVES, _NEGATIVES, _MISSING, _CLIP, _EXTRA = range(6)
_PROPENSITY, _SAMPLE_WEIGHT = 0, 1


@kernel
def loss_of_chunk(
    spec: LossSpec,
    logits: Floats,
    labels: Floats,
    carried: Floats,
    scale: float,
    heads: Doubles,
    gradients: Floats,
) -> float:
    """Returns the sum of the losses of n impressions; sets the gradients of their logits.

    Args:
        spec: the terms.
        logits: [H, >= n].
        labels: [K, n]: 1, 0, or below 0 where unknown.
        carried: [C, n].
        scale: what losses are multiplied by before their gradients are taken.
        heads: [HEAD_ROWS, H], overwritten.
        gradients: [H, >= n], set.
    """
    total = 0.0
    for i in range(labels.shape[1]):
        for head in range(logits.shape[0]):
            # A NaN must reach the loss, though no term may read this head for this impression.
            total += 0.0 * _set_head(heads, head, logits[head, i])
        for term in range(spec.task.shape[0]):
            total += _add_term(spec, term, labels[:, i], carried[:, i], logits[:, i], heads)
        for head in range(logits.shape[0]):
            gradients[head, i] = scale * heads[_GRADIENT, head]
    return total


@kernel
def _set_head(heads: Doubles, head: int, x: Any) -> Any:
    """Sets what is held of a head from its logit, which it returns; the gradient is set to 0."""
    small = math.exp(-abs(x))
    log1p = math.log1p(small)
    near, far = 1.0 / (1.0 + small), small / (1.0 + small)
    heads[_P, head] = far if x < 0 else near
    heads[_Q, head] = near if x < 0 else far
    heads[_LOG_P, head] = min(x, 0.0) - log1p
    heads[_LOG_Q, head] = min(-x, 0.0) - log1p
    heads[_GRADIENT, head] = 0.0
    return x


@kernel
def _add_term(spec: LossSpec, term: int, labels: Floats, carried: Floats, x: Floats, heads: Doubles) -> float:
    """Returns a term of an impression, and adds its gradients: see contracts/losses.py.

    Args:
        spec: the terms.
        term: which one.
        labels: [K].
        carried: [C].
        x: [H] its logits.
        heads: what is held of them.
    """
    given = 1.0
    if spec.given[term] != NONE:
        given = _label(spec, labels, spec.given[term])
    label = _label(spec, labels, spec.task[term])
    if given < 0 or (given > 0 and label < 0):
        return 0.0
    factors, kind = spec.factors[term], spec.kind[term]
    if given == 0 and factors[_MISSING] == 0 and kind != COUNTERFACTUAL and kind != IMPUTATION:
        return 0.0
    weight = factors[_WEIGHT]
    if spec.columns[term, _SAMPLE_WEIGHT] != NONE:
        weight *= carried[spec.columns[term, _SAMPLE_WEIGHT]]
    inverse = 1.0
    if spec.propensity_at[term] != spec.propensity_at[term + 1] or spec.columns[term, _PROPENSITY] != NONE:
        propensity = _propensity(spec, term, carried, heads)
        inverse = 1.0 / max(propensity if given > 0 else 1.0 - propensity, factors[_CLIP])
    if kind == COUNTERFACTUAL:
        return _add_counterfactual(spec, term, given, label, weight, inverse, heads)
    if kind == IMPUTATION:
        return _add_imputation(spec, term, given, label, weight, inverse, heads)
    if given == 0:
        return _add_cross_entropy(spec, term, 0.0, weight * factors[_MISSING], x, heads)
    weight *= inverse * (factors[_POSITIVES] if label > 0 else factors[_NEGATIVES])
    return _add_cross_entropy(spec, term, label, weight, x, heads)


@kernel
def _label(spec: LossSpec, labels: Floats, task: int) -> float:
    """Returns the label of a task, which is 0 where that of one of its ancestors is."""
    label, ancestor = float(labels[task]), spec.parents[task]
    while ancestor != NONE:
        if labels[ancestor] == 0:
            label = 0.0
        ancestor = spec.parents[ancestor]
    return label


@kernel
def _propensity(spec: LossSpec, term: int, carried: Floats, heads: Doubles) -> float:
    if spec.columns[term, _PROPENSITY] != NONE:
        return float(carried[spec.columns[term, _PROPENSITY]])
    propensity = 1.0
    for place in range(spec.propensity_at[term], spec.propensity_at[term + 1]):
        propensity *= heads[_P, spec.propensity_chain[place]]
    return propensity


@kernel
def _add_cross_entropy(
    spec: LossSpec, term: int, label: float, weight: float, x: Floats, heads: Doubles
) -> float:
    """Returns `weight` times the cross entropy of the product of a chain's probabilities."""
    first, end = spec.chain_at[term], spec.chain_at[term + 1]
    if end - first == 1:
        return _add_own_cross_entropy(spec.chain[first], label, weight, heads)
    log_p, p = 0.0, 1.0
    for place in range(first, end):
        log_p += heads[_LOG_P, spec.chain[place]]
        p *= heads[_P, spec.chain[place]]
    if label > 0:
        for place in range(first, end):
            heads[_GRADIENT, spec.chain[place]] -= weight * heads[_Q, spec.chain[place]]
        return float(-weight * log_p)
    if p < 0.5:
        odds = weight * (p / (1.0 - p))
        for place in range(first, end):
            heads[_GRADIENT, spec.chain[place]] += odds * heads[_Q, spec.chain[place]]
        return float(-weight * math.log1p(-p))
    return _add_likely(spec, term, log_p, weight, x, heads)


@kernel
def _add_likely(spec: LossSpec, term: int, log_p: float, weight: float, x: Floats, heads: Doubles) -> float:
    """Returns `weight` times -log(1 - p) of a chain with p >= 1/2, so that no logit is below 0."""
    first, end = spec.chain_at[term], spec.chain_at[term + 1]
    lowest = spec.chain[first]
    for place in range(first + 1, end):
        if x[spec.chain[place]] < x[lowest]:
            lowest = spec.chain[place]
    # 1 + r = exp(lowest) (1 - p) / p, head by head: 1 + r' = (1 + r) (1 + e) + exp(lowest) e.
    r = 0.0
    for place in range(first, end):
        head = spec.chain[place]
        if head != lowest:
            e = math.exp(-x[head])
            r = (math.exp(x[lowest] - x[head]) + e) + r * (1.0 + e)
    for place in range(first, end):
        head = spec.chain[place]
        slope = math.exp(x[lowest] - x[head]) * heads[_P, head] / (1.0 + r)
        heads[_GRADIENT, head] += weight * slope
    return float(-weight * (math.log1p(r) - x[lowest] + log_p))


@kernel
def _add_own_cross_entropy(head: int, label: float, weight: float, heads: Doubles) -> float:
    """Returns `weight` times the cross entropy of one head's probability."""
    if label > 0:
        heads[_GRADIENT, head] -= weight * heads[_Q, head]
        return float(-weight * heads[_LOG_P, head])
    heads[_GRADIENT, head] += weight * heads[_P, head]
    return float(-weight * heads[_LOG_Q, head])


@kernel
def _add_counterfactual(
    spec: LossSpec, term: int, given: float, label: float, weight: float, inverse: float, heads: Doubles
) -> float:
    """Returns DCMT's term: each head's cross entropy where it applies, and the regulariser of both."""
    head, twin = spec.chain[spec.chain_at[term]], spec.extra_head[term]
    if given > 0:
        loss = _add_own_cross_entropy(head, label, weight * inverse, heads)
    else:
        loss = _add_own_cross_entropy(twin, 1.0, weight * inverse, heads)
    excess = heads[_P, head] - heads[_Q, twin]  # q + q' - 1
    regulariser = weight * spec.factors[term, _EXTRA]
    slope = regulariser if excess > 0 else (-regulariser if excess < 0 else 0.0)
    heads[_GRADIENT, head] += slope * (heads[_P, head] * heads[_Q, head])
    heads[_GRADIENT, twin] += slope * (heads[_P, twin] * heads[_Q, twin])
    return float(loss + regulariser * abs(excess))


@kernel
def _add_imputation(
    spec: LossSpec, term: int, given: float, label: float, weight: float, inverse: float, heads: Doubles
) -> float:
    """Returns the doubly robust term, whose imputed error is softplus of its head's logit."""
    head, imputing = spec.chain[spec.chain_at[term]], spec.extra_head[term]
    imputed = -heads[_LOG_Q, imputing]
    if given == 0:
        heads[_GRADIENT, imputing] += weight * heads[_P, imputing]
        return float(weight * imputed)
    error = -heads[_LOG_P, head] if label > 0 else -heads[_LOG_Q, head]
    error_slope = -heads[_Q, head] if label > 0 else heads[_P, head]
    missed, own_weight = error - imputed, spec.factors[term, _EXTRA]
    slope = inverse * (1.0 + 2.0 * own_weight * missed)
    heads[_GRADIENT, head] += weight * slope * error_slope
    heads[_GRADIENT, imputing] += weight * (1.0 - slope) * heads[_P, imputing]
    return float(weight * (imputed + inverse * (missed + own_weight * missed * missed)))
