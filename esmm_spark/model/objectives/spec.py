"""The terms of an objective as plain arrays, which the compiled loss and its torch twin read alike.

Shapes: K tasks, H heads, T terms, C carried columns.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esmm_spark.contracts.losses import Term
from esmm_spark.contracts.objective import Objective
from esmm_spark.runtime.arrays import Ints

NONE = -1
# Kinds of terms: a cross entropy alone, with a counterfactual twin, or with an imputed error; a limit of a
# probability.
PLAIN, COUNTERFACTUAL, IMPUTATION, CONSTRAINT = 0, 1, 2, 3


class LossSpec(NamedTuple):
    """The terms of an objective.

    Attributes:
        parents: [K] each task's parent, NONE for a root.
        task: [T] whose label it is.
        given: [T] the task whose label must be 1, NONE where all impressions count.
        chain_at: [T + 1] where in `chain` each term's heads begin.
        chain: the heads whose probabilities are multiplied, term after term.
        propensity_at: [T + 1] where in `propensity_chain` each term's heads begin.
        propensity_chain: the heads whose probabilities multiply to the propensity, or to what a constraint
            limits the term's to; none without one, and where the propensity is a carried column.
        columns: [T, 2] the carried columns of the propensity and the sample weight, NONE for none.
        kind: [T] PLAIN, COUNTERFACTUAL, IMPUTATION or CONSTRAINT.
        extra_head: [T] the head of the counterfactual or the imputation, NONE for none.
        factors: [T, 8] float64: weight, positives, negatives, missing, the propensity's clip, the weight of
            the counterfactual's regulariser or the imputation's own error, and what inverse propensities are
            divided by where the parent happened and where not: 1, or running means (`weight_means.py`).
        normalized: [T] whether inverse propensities are added to `weight_sums`.
        weight_sums: [T, 2] float64, set by each call of the loss: sums over its impressions of inverse
            propensities where the parent happened and where not; 0 of terms that aren't normalized.
    """

    parents: Ints
    task: Ints
    given: Ints
    chain_at: Ints
    chain: Ints
    propensity_at: Ints
    propensity_chain: Ints
    columns: Ints
    kind: Ints
    extra_head: Ints
    factors: npt.NDArray[np.float64]
    normalized: Ints
    weight_sums: npt.NDArray[np.float64]


def spec_of(objective: Objective) -> LossSpec:
    """Returns the terms of `objective`, none where a function gives the loss."""
    names, terms = objective.tasks.names, objective.terms
    chains = [_chain(objective, term) for term in terms]
    propensity_chains = [_propensity_chain(objective, term) for term in terms]
    given = [objective.tasks.parent(term.task) if term.space == "given" else None for term in terms]
    return LossSpec(
        parents=_ints(objective.tasks.parents),
        task=_ints([names.index(term.task) for term in terms]),
        given=_ints([NONE if parent is None else names.index(parent) for parent in given]),
        chain_at=_ints(np.cumsum([0, *map(len, chains)])),
        chain=_ints([head for chain in chains for head in chain]),
        propensity_at=_ints(np.cumsum([0, *map(len, propensity_chains)])),
        propensity_chain=_ints([head for chain in propensity_chains for head in chain]),
        columns=_ints([_columns(objective, term) for term in terms]).reshape(len(terms), 2),
        kind=_ints([_kind(term) for term in terms]),
        extra_head=_ints([objective.extra_head(term) for term in terms]),
        factors=np.array([_factors(term) for term in terms], np.float64).reshape(len(terms), 8),
        normalized=_ints([term.propensity is not None and term.propensity.normalized for term in terms]),
        weight_sums=np.zeros((len(terms), 2)),
    )


def _chain(objective: Objective, term: Term) -> tuple[int, ...]:
    if term.space == "entire":
        return objective.entire_heads(term.task)
    return (objective.tasks.names.index(term.task),)


def _propensity_chain(objective: Objective, term: Term) -> tuple[int, ...]:
    if term.not_above is not None:
        return objective.entire_heads(term.not_above)
    parent = objective.tasks.parent(term.task)
    if term.propensity is None or term.propensity.column is not None or parent is None:
        return ()
    return objective.entire_heads(parent)


def _columns(objective: Objective, term: Term) -> tuple[int, int]:
    names = term.propensity.column if term.propensity else None, term.sample_weight
    first, second = (NONE if name is None else objective.columns.index(name) for name in names)
    return first, second


def _kind(term: Term) -> int:
    if term.counterfactual is not None:
        return COUNTERFACTUAL
    if term.not_above is not None:
        return CONSTRAINT
    return IMPUTATION if term.imputation is not None else PLAIN


def _factors(term: Term) -> tuple[float, ...]:
    clip = term.propensity.clip if term.propensity else 1.0
    extra = term.counterfactual or term.imputation
    own = term.weight, term.positives, term.negatives, term.missing
    return (*own, clip, extra.weight if extra else 0.0, 1.0, 1.0)


def _ints(values: object) -> Ints:
    return np.array(values, np.int64)
