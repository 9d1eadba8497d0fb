"""The loss of an impression and its gradients, of any terms; called by the fused kernel.

`pointwise` says the same in torch. Nothing cancels, so that logits of any size have the right gradient: with
p_h = sigmoid(x_h), q_h = 1 - p_h, e_h = exp(-x_h) and p the product of the p_h of a chain of heads,

    d log p / dx_h       =  q_h
    d log(1 - p) / dx_h  = -q_h p / (1 - p)
    (1 - p) / p          =  (1 + e_1) (1 + e_2) ... - 1

where p is above 1/2 the last is summed up head by head, of positive numbers, with exp(-x_h) of the lowest
logit factored out, as it may underflow. Exponentials are of the logits' precision, float32 in training, what
is made of them is in float64.

A chunk of impressions goes through each term in a loop of its own: what a term is stands outside of it. One
impression after the other through all terms took four times as long.

Shapes: n impressions of a chunk, H heads, K tasks, C carried columns, T terms, M impressions of the largest
chunk.
"""

import math

import numpy as np
import numpy.typing as npt

from esmm_spark.model.kernels.compilation import Floats, Ints, kernel
from esmm_spark.model.objectives.spec import COUNTERFACTUAL, IMPUTATION, NONE, LossSpec

Doubles = npt.NDArray[np.float64]

# What is held of each head, [_HEAD_ROWS, H, M]: its p, 1 - p, the logarithms of both, and its gradient.
_HEAD_ROWS = 5
_P, _Q, _LOG_P, _LOG_Q, _GRADIENT = range(_HEAD_ROWS)
# The columns of `LossSpec.factors`.
_WEIGHT, _POSITIVES, _NEGATIVES, _MISSING, _CLIP, _EXTRA = range(6)
_PROPENSITY, _SAMPLE_WEIGHT = 0, 1


def loss_scratch_rows(num_heads: int, num_tasks: int) -> int:
    """Returns how many rows of M numbers `loss_of_chunk` works in: of heads, labels, and factors."""
    return _HEAD_ROWS * num_heads + num_tasks + 1


@kernel
def loss_of_chunk(
    spec: LossSpec,
    logits: Floats,
    labels: Floats,
    carried: Floats,
    scale: float,
    scratch: Doubles,
    gradients: Floats,
) -> float:
    """Returns the sum of the losses of n impressions; sets the gradients of their logits.

    Args:
        spec: the terms.
        logits: [H, >= n].
        labels: [K, n]: 1, 0, or below 0 where unknown.
        carried: [C, n].
        scale: what losses are multiplied by before their gradients are taken.
        scratch: [`loss_scratch_rows`, M] float64, overwritten.
        gradients: [H, >= n], set.
    """
    num_heads, num_tasks, count = logits.shape[0], labels.shape[0], labels.shape[1]
    after_heads = _HEAD_ROWS * num_heads
    heads = scratch[:after_heads].reshape(_HEAD_ROWS, num_heads, scratch.shape[1])
    known, factors = scratch[after_heads : after_heads + num_tasks], scratch[after_heads + num_tasks]
    total = 0.0
    for head in range(num_heads):
        total += _set_head(logits[head], heads[:, head], count)
    for task in range(num_tasks):
        _set_labels(labels, spec.parents[task], task, known)
    for term in range(spec.task.shape[0]):
        if spec.kind[term] == COUNTERFACTUAL:
            total += _add_counterfactual(spec, term, known, carried, heads, count)
        elif spec.kind[term] == IMPUTATION:
            total += _add_imputation(spec, term, known, carried, heads, count)
        else:
            _set_factors(spec, term, known, carried, heads, factors[:count])
            total += _add_cross_entropy(spec, term, known[spec.task[term]], factors[:count], logits, heads)
    for head in range(num_heads):
        for i in range(count):
            gradients[head, i] = scale * heads[_GRADIENT, head, i]
    return total


@kernel
def _set_head(logits: Floats, head: Doubles, count: int) -> float:
    """Sets what is held of a head, its gradient to 0; returns 0, or NaN where a logit is NaN or infinite.

    A NaN must reach the loss, though no term may read this head for this impression.
    """
    total = 0.0
    for i in range(count):
        x = logits[i]
        small = math.exp(-abs(x))
        log1p = math.log1p(small)
        near, far = 1.0 / (1.0 + small), small / (1.0 + small)
        head[_P, i] = far if x < 0 else near
        head[_Q, i] = near if x < 0 else far
        head[_LOG_P, i] = min(x, 0.0) - log1p
        head[_LOG_Q, i] = min(-x, 0.0) - log1p
        head[_GRADIENT, i] = 0.0
        total += 0.0 * x
    return total


@kernel
def _set_labels(labels: Floats, parent: int, task: int, known: Doubles) -> None:
    """Sets the labels of a task, 0 where that of its parent is; the parent's are set."""
    for i in range(labels.shape[1]):
        known[task, i] = labels[task, i]
        if parent != NONE and known[parent, i] == 0:
            known[task, i] = 0.0


@kernel
def _has_propensity(spec: LossSpec, term: int) -> bool:
    has_column = spec.columns[term, _PROPENSITY] != NONE
    return bool(has_column or spec.propensity_at[term] != spec.propensity_at[term + 1])


@kernel
def _propensity(spec: LossSpec, term: int, carried: Floats, heads: Doubles, i: int) -> float:
    if spec.columns[term, _PROPENSITY] != NONE:
        return float(carried[spec.columns[term, _PROPENSITY], i])
    propensity = 1.0
    for place in range(spec.propensity_at[term], spec.propensity_at[term + 1]):
        propensity *= heads[_P, spec.propensity_chain[place], i]
    return propensity


@kernel
def _weight(spec: LossSpec, term: int, carried: Floats, i: int) -> float:
    weight = spec.factors[term, _WEIGHT]
    if spec.columns[term, _SAMPLE_WEIGHT] != NONE:
        weight *= carried[spec.columns[term, _SAMPLE_WEIGHT], i]
    return float(weight)


@kernel
def _set_factors(
    spec: LossSpec, term: int, known: Doubles, carried: Floats, heads: Doubles, factors: Doubles
) -> None:
    """Sets what the cross entropies of a plain term are multiplied by [n], 0 where it does not apply."""
    given, task = spec.given[term], spec.task[term]
    weight, clip = spec.factors[term, _WEIGHT], spec.factors[term, _CLIP]
    positive, negative = weight * spec.factors[term, _POSITIVES], weight * spec.factors[term, _NEGATIVES]
    missing = weight * spec.factors[term, _MISSING]
    for i in range(factors.shape[0]):
        label = known[task, i]
        factor = 0.0 if label < 0 else (positive if label > 0 else negative)
        if given != NONE and known[given, i] <= 0:
            factor = missing if known[given, i] == 0 else 0.0
        factors[i] = factor
    sample_weight = spec.columns[term, _SAMPLE_WEIGHT]
    if sample_weight != NONE:
        for i in range(factors.shape[0]):
            if factors[i] != 0:
                factors[i] *= carried[sample_weight, i]
    if _has_propensity(spec, term):
        for i in range(factors.shape[0]):
            if factors[i] != 0 and known[given, i] > 0:
                factors[i] /= max(_propensity(spec, term, carried, heads, i), clip)


@kernel
def _add_cross_entropy(
    spec: LossSpec, term: int, labels: Doubles, factors: Doubles, logits: Floats, heads: Doubles
) -> float:
    """Returns the sum of `factors` times the cross entropies of the product of a chain's probabilities.

    Where the parent did not happen the label is 0, as that of all that is given it.
    """
    first, end = spec.chain_at[term], spec.chain_at[term + 1]
    total = 0.0
    if end - first == 1:
        head = spec.chain[first]
        for i in range(factors.shape[0]):
            if factors[i] != 0:
                total += _add_own_cross_entropy(heads, head, i, labels[i] > 0, factors[i])
        return total
    for i in range(factors.shape[0]):
        if factors[i] != 0:
            chain = spec.chain[first:end]
            total += _add_product_cross_entropy(chain, i, labels[i] > 0, factors[i], logits, heads)
    return total


@kernel
def _add_product_cross_entropy(
    chain: Ints, i: int, happened: bool, factor: float, logits: Floats, heads: Doubles
) -> float:
    """Returns `factor` times the cross entropy of the product of a chain's probabilities."""
    log_p, p = 0.0, 1.0
    for head in chain:
        log_p += heads[_LOG_P, head, i]
        p *= heads[_P, head, i]
    if happened:
        for head in chain:
            heads[_GRADIENT, head, i] -= factor * heads[_Q, head, i]
        return float(-factor * log_p)
    if p < 0.5:
        odds = factor * (p / (1.0 - p))
        for head in chain:
            heads[_GRADIENT, head, i] += odds * heads[_Q, head, i]
        return float(-factor * math.log1p(-p))
    return _add_likely(chain, i, log_p, factor, logits, heads)


@kernel
def _add_likely(chain: Ints, i: int, log_p: float, factor: float, logits: Floats, heads: Doubles) -> float:
    """Returns `factor` times -log(1 - p) of a chain with p >= 1/2, so that no logit is below 0."""
    lowest = chain[0]
    for head in chain:
        if logits[head, i] < logits[lowest, i]:
            lowest = head
    # 1 + r = exp(lowest) (1 - p) / p, head by head: 1 + r' = (1 + r) (1 + e) + exp(lowest) e.
    r = 0.0
    for head in chain:
        if head != lowest:
            e = math.exp(-logits[head, i])
            r = (math.exp(logits[lowest, i] - logits[head, i]) + e) + r * (1.0 + e)
    for head in chain:
        slope = math.exp(logits[lowest, i] - logits[head, i]) * heads[_P, head, i] / (1.0 + r)
        heads[_GRADIENT, head, i] += factor * slope
    return float(-factor * (math.log1p(r) - logits[lowest, i] + log_p))


@kernel
def _add_own_cross_entropy(heads: Doubles, head: int, i: int, happened: bool, factor: float) -> float:
    """Returns `factor` times the cross entropy of one head's probability."""
    if happened:
        heads[_GRADIENT, head, i] -= factor * heads[_Q, head, i]
        return float(-factor * heads[_LOG_P, head, i])
    heads[_GRADIENT, head, i] += factor * heads[_P, head, i]
    return float(-factor * heads[_LOG_Q, head, i])


@kernel
def _add_counterfactual(
    spec: LossSpec, term: int, known: Doubles, carried: Floats, heads: Doubles, count: int
) -> float:
    """Returns DCMT's term: each head's cross entropy where it applies, and the regulariser of both."""
    head, twin = spec.chain[spec.chain_at[term]], spec.extra_head[term]
    given, task, clip = spec.given[term], spec.task[term], spec.factors[term, _CLIP]
    total = 0.0
    for i in range(count):
        if known[given, i] < 0 or known[task, i] < 0:
            continue
        weight, p = _weight(spec, term, carried, i), _propensity(spec, term, carried, heads, i)
        if known[given, i] > 0:
            total += _add_own_cross_entropy(heads, head, i, known[task, i] > 0, weight / max(p, clip))
        else:
            total += _add_own_cross_entropy(heads, twin, i, True, weight / max(1.0 - p, clip))
        excess = heads[_P, head, i] - heads[_Q, twin, i]  # q + q' - 1
        regulariser = weight * spec.factors[term, _EXTRA]
        slope = regulariser if excess > 0 else (-regulariser if excess < 0 else 0.0)
        heads[_GRADIENT, head, i] += slope * (heads[_P, head, i] * heads[_Q, head, i])
        heads[_GRADIENT, twin, i] += slope * (heads[_P, twin, i] * heads[_Q, twin, i])
        total += regulariser * abs(excess)
    return total


@kernel
def _add_imputation(
    spec: LossSpec, term: int, known: Doubles, carried: Floats, heads: Doubles, count: int
) -> float:
    """Returns the doubly robust term, whose imputed error is softplus of its head's logit."""
    head, imputing = spec.chain[spec.chain_at[term]], spec.extra_head[term]
    given, task, own_weight = spec.given[term], spec.task[term], spec.factors[term, _EXTRA]
    total = 0.0
    for i in range(count):
        if known[given, i] < 0 or known[task, i] < 0:
            continue
        weight, imputed = _weight(spec, term, carried, i), -heads[_LOG_Q, imputing, i]
        if known[given, i] == 0:
            heads[_GRADIENT, imputing, i] += weight * heads[_P, imputing, i]
            total += weight * imputed
            continue
        inverse = 1.0 / max(_propensity(spec, term, carried, heads, i), spec.factors[term, _CLIP])
        happened = known[task, i] > 0
        error = -heads[_LOG_P, head, i] if happened else -heads[_LOG_Q, head, i]
        error_slope = -heads[_Q, head, i] if happened else heads[_P, head, i]
        missed = error - imputed
        slope = inverse * (1.0 + 2.0 * own_weight * missed)
        heads[_GRADIENT, head, i] += weight * slope * error_slope
        heads[_GRADIENT, imputing, i] += weight * (1.0 - slope) * heads[_P, imputing, i]
        total += weight * (imputed + inverse * (missed + own_weight * missed * missed))
    return total
