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

from esmm_spark.model.kernels.compilation import kernel
from esmm_spark.model.objectives.spec import CONSTRAINT, COUNTERFACTUAL, IMPUTATION, NONE, LossSpec
from esmm_spark.model.objectives.term_kernels import (
    CLIP,
    GRADIENT,
    HEAD_ROWS,
    LOG_P,
    LOG_Q,
    MEAN,
    MISSING,
    NEGATIVES,
    POSITIVES,
    PROPENSITY,
    SAMPLE_WEIGHT,
    WEIGHT,
    P,
    Q,
    add_constraint,
    add_counterfactual,
    add_imputation,
    add_own_cross_entropy,
    propensity_of,
)
from esmm_spark.runtime.arrays import Float32s, Float64s, Ints


def loss_scratch_rows(num_heads: int, num_tasks: int) -> int:
    """Returns how many rows of M numbers `loss_of_chunk` works in: of heads, labels, and factors."""
    return HEAD_ROWS * num_heads + num_tasks + 1


@kernel
def loss_of_chunk(
    spec: LossSpec,
    logits: Float32s,
    labels: Float32s,
    carried: Float32s,
    scale: float,
    scratch: Float64s,
    gradients: Float32s,
    weight_sums: Float64s,
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
        weight_sums: [T, 2] added to, as in the spec.
    """
    num_heads, num_tasks, count = logits.shape[0], labels.shape[0], labels.shape[1]
    after_heads = HEAD_ROWS * num_heads
    heads = scratch[:after_heads].reshape(HEAD_ROWS, num_heads, scratch.shape[1])
    known, factors = scratch[after_heads : after_heads + num_tasks], scratch[after_heads + num_tasks]
    total = 0.0
    for head in range(num_heads):
        total += _set_head(logits[head], heads[:, head], count)
    for task in range(num_tasks):
        _set_labels(labels, spec.parents[task], task, known)
    for term in range(spec.task.shape[0]):
        if spec.kind[term] == COUNTERFACTUAL:
            total += add_counterfactual(spec, term, known, carried, heads, weight_sums[term])
        elif spec.kind[term] == IMPUTATION:
            total += add_imputation(spec, term, known, carried, heads, count)
        elif spec.kind[term] == CONSTRAINT:
            total += add_constraint(spec, term, carried, heads, count)
        else:
            _set_factors(spec, term, known, carried, factors[:count])
            if _has_propensity(spec, term):
                _weigh_inversely(spec, term, known, carried, heads, factors[:count], weight_sums[term])
            total += _add_cross_entropy(spec, term, known[spec.task[term]], factors[:count], logits, heads)
    for head in range(num_heads):
        for i in range(count):
            gradients[head, i] = scale * heads[GRADIENT, head, i]
    return total


@kernel
def _set_head(logits: Float32s, head: Float64s, count: int) -> float:
    """Sets what is held of a head, its gradient to 0; returns 0, or NaN where a logit is NaN or infinite.

    A NaN must reach the loss, though no term may read this head for this impression.
    """
    total = 0.0
    for i in range(count):
        x = logits[i]
        small = math.exp(-abs(x))
        log1p = math.log1p(small)
        near, far = 1.0 / (1.0 + small), small / (1.0 + small)
        head[P, i] = far if x < 0 else near
        head[Q, i] = near if x < 0 else far
        head[LOG_P, i] = min(x, 0.0) - log1p
        head[LOG_Q, i] = min(-x, 0.0) - log1p
        head[GRADIENT, i] = 0.0
        total += 0.0 * x
    return total


@kernel
def _set_labels(labels: Float32s, parent: int, task: int, known: Float64s) -> None:
    """Sets the labels of a task, 0 where that of its parent is; the parent's are set."""
    for i in range(labels.shape[1]):
        known[task, i] = labels[task, i]
        if parent != NONE and known[parent, i] == 0:
            known[task, i] = 0.0


@kernel
def _has_propensity(spec: LossSpec, term: int) -> bool:
    has_column = spec.columns[term, PROPENSITY] != NONE
    return bool(has_column or spec.propensity_at[term] != spec.propensity_at[term + 1])


@kernel
def _set_factors(spec: LossSpec, term: int, known: Float64s, carried: Float32s, factors: Float64s) -> None:
    """Sets what the cross entropies of a plain term are multiplied by [n], 0 where it does not apply."""
    given, task, weight = spec.given[term], spec.task[term], spec.factors[term, WEIGHT]
    positive, negative = weight * spec.factors[term, POSITIVES], weight * spec.factors[term, NEGATIVES]
    missing = weight * spec.factors[term, MISSING]
    for i in range(factors.shape[0]):
        label = known[task, i]
        factor = 0.0 if label < 0 else (positive if label > 0 else negative)
        if given != NONE and known[given, i] <= 0:
            factor = missing if known[given, i] == 0 else 0.0
        factors[i] = factor
    sample_weight = spec.columns[term, SAMPLE_WEIGHT]
    if sample_weight != NONE:
        for i in range(factors.shape[0]):
            if factors[i] != 0:
                factors[i] *= carried[sample_weight, i]


@kernel
def _weigh_inversely(
    spec: LossSpec,
    term: int,
    known: Float64s,
    carried: Float32s,
    heads: Float64s,
    factors: Float64s,
    weight_sums: Float64s,
) -> None:
    """Divides a plain term's factors by the propensities, where the parent happened."""
    given, task, clip = spec.given[term], spec.task[term], spec.factors[term, CLIP]
    is_normalized, mean = spec.normalized[term] != 0, spec.factors[term, MEAN]
    for i in range(factors.shape[0]):
        if known[given, i] > 0 and known[task, i] >= 0:
            clipped = max(propensity_of(spec, term, carried, heads, i), clip)
            if is_normalized:
                weight_sums[0] += 1.0 / clipped
                factors[i] /= mean
            if factors[i] != 0:
                factors[i] /= clipped


@kernel
def _add_cross_entropy(
    spec: LossSpec, term: int, labels: Float64s, factors: Float64s, logits: Float32s, heads: Float64s
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
                total += add_own_cross_entropy(heads, head, i, labels[i] > 0, factors[i])
        return total
    for i in range(factors.shape[0]):
        if factors[i] != 0:
            chain = spec.chain[first:end]
            total += _add_product_cross_entropy(chain, i, labels[i] > 0, factors[i], logits, heads)
    return total


@kernel
def _add_product_cross_entropy(
    chain: Ints, i: int, happened: bool, factor: float, logits: Float32s, heads: Float64s
) -> float:
    """Returns `factor` times the cross entropy of the product of a chain's probabilities."""
    log_p, p = 0.0, 1.0
    for head in chain:
        log_p += heads[LOG_P, head, i]
        p *= heads[P, head, i]
    if happened:
        for head in chain:
            heads[GRADIENT, head, i] -= factor * heads[Q, head, i]
        return float(-factor * log_p)
    if p < 0.5:
        odds = factor * (p / (1.0 - p))
        for head in chain:
            heads[GRADIENT, head, i] += odds * heads[Q, head, i]
        return float(-factor * math.log1p(-p))
    return _add_likely(chain, i, log_p, factor, logits, heads)


@kernel
def _add_likely(chain: Ints, i: int, log_p: float, factor: float, logits: Float32s, heads: Float64s) -> float:
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
        slope = math.exp(logits[lowest, i] - logits[head, i]) * heads[P, head, i] / (1.0 + r)
        heads[GRADIENT, head, i] += factor * slope
    return float(-factor * (math.log1p(r) - logits[lowest, i] + log_p))
