"""The terms of the loss that are no weighted cross entropy of one probability; called by `pointwise_kernels`.

Shapes are those of `pointwise_kernels`.
"""

from esmm_spark.model.kernels.compilation import kernel
from esmm_spark.model.objectives.spec import NONE, LossSpec
from esmm_spark.runtime.arrays import Float32s, Float64s, Ints

# What is held of each head, [HEAD_ROWS, H, M]: its p, 1 - p, the logarithms of both, and its gradient.
HEAD_ROWS = 5
P, Q, LOG_P, LOG_Q, GRADIENT = range(HEAD_ROWS)
# The columns of `LossSpec.factors`.
WEIGHT, POSITIVES, NEGATIVES, MISSING, CLIP, EXTRA, MEAN, MEAN_OF_REST = range(8)
PROPENSITY, SAMPLE_WEIGHT = 0, 1


@kernel
def propensity_of(spec: LossSpec, term: int, carried: Float32s, heads: Float64s, i: int) -> float:
    """Returns an impression's propensity: a carried column, or the product of a chain's probabilities."""
    if spec.columns[term, PROPENSITY] != NONE:
        return float(carried[spec.columns[term, PROPENSITY], i])
    return _product(spec.propensity_chain[spec.propensity_at[term] : spec.propensity_at[term + 1]], heads, i)


@kernel
def weight_of(spec: LossSpec, term: int, carried: Float32s, i: int) -> float:
    """Returns a term's weight times the impression's, if it has one."""
    weight = spec.factors[term, WEIGHT]
    if spec.columns[term, SAMPLE_WEIGHT] != NONE:
        weight *= carried[spec.columns[term, SAMPLE_WEIGHT], i]
    return float(weight)


@kernel
def add_own_cross_entropy(heads: Float64s, head: int, i: int, happened: bool, factor: float) -> float:
    """Returns `factor` times the cross entropy of one head's probability."""
    if happened:
        heads[GRADIENT, head, i] -= factor * heads[Q, head, i]
        return float(-factor * heads[LOG_P, head, i])
    heads[GRADIENT, head, i] += factor * heads[P, head, i]
    return float(-factor * heads[LOG_Q, head, i])


@kernel
def add_counterfactual(
    spec: LossSpec, term: int, known: Float64s, carried: Float32s, heads: Float64s, weight_sums: Float64s
) -> float:
    """Returns DCMT's term: each head's cross entropy where it applies, and the regulariser of both."""
    head, twin = spec.chain[spec.chain_at[term]], spec.extra_head[term]
    given, task, clip = spec.given[term], spec.task[term], spec.factors[term, CLIP]
    mean, mean_of_rest = spec.factors[term, MEAN], spec.factors[term, MEAN_OF_REST]
    total = 0.0
    for i in range(carried.shape[1]):
        if known[given, i] < 0 or known[task, i] < 0:
            continue
        weight, p = weight_of(spec, term, carried, i), propensity_of(spec, term, carried, heads, i)
        has_happened = known[given, i] > 0
        inverse = 1.0 / max(p if has_happened else 1.0 - p, clip)
        if spec.normalized[term] != 0:
            weight_sums[0 if has_happened else 1] += inverse
        if has_happened:
            factor = weight * inverse / mean
            total += add_own_cross_entropy(heads, head, i, known[task, i] > 0, factor)
        else:
            total += add_own_cross_entropy(heads, twin, i, True, weight * inverse / mean_of_rest)
        excess = heads[P, head, i] - heads[Q, twin, i]  # q + q' - 1
        regulariser = weight * spec.factors[term, EXTRA]
        slope = regulariser if excess > 0 else (-regulariser if excess < 0 else 0.0)
        heads[GRADIENT, head, i] += slope * (heads[P, head, i] * heads[Q, head, i])
        heads[GRADIENT, twin, i] += slope * (heads[P, twin, i] * heads[Q, twin, i])
        total += regulariser * abs(excess)
    return total


@kernel
def add_imputation(
    spec: LossSpec, term: int, known: Float64s, carried: Float32s, heads: Float64s, count: int
) -> float:
    """Returns the doubly robust term, whose imputed error is softplus of its head's logit."""
    head, imputing = spec.chain[spec.chain_at[term]], spec.extra_head[term]
    given, task, own_weight = spec.given[term], spec.task[term], spec.factors[term, EXTRA]
    total = 0.0
    for i in range(count):
        if known[given, i] < 0 or known[task, i] < 0:
            continue
        weight, imputed = weight_of(spec, term, carried, i), -heads[LOG_Q, imputing, i]
        if known[given, i] == 0:
            heads[GRADIENT, imputing, i] += weight * heads[P, imputing, i]
            total += weight * imputed
            continue
        inverse = 1.0 / max(propensity_of(spec, term, carried, heads, i), spec.factors[term, CLIP])
        happened = known[task, i] > 0
        error = -heads[LOG_P, head, i] if happened else -heads[LOG_Q, head, i]
        error_slope = -heads[Q, head, i] if happened else heads[P, head, i]
        missed = error - imputed
        slope = inverse * (1.0 + 2.0 * own_weight * missed)
        heads[GRADIENT, head, i] += weight * slope * error_slope
        heads[GRADIENT, imputing, i] += weight * (1.0 - slope) * heads[P, imputing, i]
        total += weight * (imputed + inverse * (missed + own_weight * missed * missed))
    return total


@kernel
def add_constraint(spec: LossSpec, term: int, carried: Float32s, heads: Float64s, count: int) -> float:
    """Returns `weight` times what a task's probability has above another's, whatever the labels."""
    chain = spec.chain[spec.chain_at[term] : spec.chain_at[term + 1]]
    limiting = spec.propensity_chain[spec.propensity_at[term] : spec.propensity_at[term + 1]]
    total = 0.0
    for i in range(count):
        p, most = _product(chain, heads, i), _product(limiting, heads, i)
        if p > most:
            weight = weight_of(spec, term, carried, i)
            total += weight * (p - most)
            for head in chain:
                heads[GRADIENT, head, i] += weight * p * heads[Q, head, i]
            for head in limiting:
                heads[GRADIENT, head, i] -= weight * most * heads[Q, head, i]
    return total


@kernel
def _product(chain: Ints, heads: Float64s, i: int) -> float:
    """Returns the product of a chain's probabilities."""
    p = 1.0
    for head in chain:
        p *= heads[P, head, i]
    return p
