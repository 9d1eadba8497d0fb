"""The loss of impressions as contracts/losses.py says it, in probabilities and float64, by autograd."""

import torch
from torch import Tensor

from esmm_spark.contracts.losses import Term
from esmm_spark.contracts.objective import Objective


def probability_form(
    objective: Objective, logits: Tensor, labels: Tensor, carried: dict[str, Tensor]
) -> Tensor:
    """Returns the loss of each impression [N], impression by impression, term by term."""
    losses = []
    for i in range(logits.shape[1]):
        own = {name: column[i] for name, column in carried.items()}
        total = logits.new_zeros(())
        for term in objective.terms:
            total = total + _term(objective, term, torch.sigmoid(logits[:, i]), labels[:, i], own)
        losses.append(total)
    return torch.stack(losses)


def bce(label: float, p: Tensor) -> Tensor:
    return -torch.log(p) if label else -torch.log(1 - p)


def _label(objective: Objective, task: str, labels: Tensor) -> int:
    names = objective.tasks.names
    chain = [int(labels[names.index(name)]) for name in objective.tasks.chain(task)]
    return 0 if 0 in chain else chain[-1]


def _entire(objective: Objective, task: str, p: Tensor) -> Tensor:
    if objective.head_space == "entire":
        return p[objective.tasks.names.index(task)]
    return torch.stack([p[objective.tasks.names.index(name)] for name in objective.tasks.chain(task)]).prod()


def _term(objective: Objective, term: Term, p: Tensor, labels: Tensor, carried: dict[str, Tensor]) -> Tensor:
    label = _label(objective, term.task, labels)
    weight = term.weight * (carried[term.sample_weight] if term.sample_weight else 1.0)
    by_label = term.positives if label == 1 else term.negatives
    if term.not_above:
        excess = _entire(objective, term.task, p) - _entire(objective, term.not_above, p)
        return weight * excess.clamp(min=0)
    if term.space == "entire":
        nothing = p.new_zeros(())
        return nothing if label < 0 else weight * by_label * bce(label, _entire(objective, term.task, p))
    parent = objective.tasks.parent(term.task)
    assert parent is not None
    given = _label(objective, parent, labels)
    if given < 0 or (given and label < 0):
        return p.new_zeros(())
    own = p[objective.tasks.names.index(term.task)]
    clip = term.propensity.clip if term.propensity else 1.0
    propensity = torch.ones(())
    if term.propensity:
        column = term.propensity.column
        propensity = carried[column] if column else _entire(objective, parent, p).detach()
    if term.counterfactual:
        twin = p[objective.extra_head(term)]
        factual = given * bce(label, own) / propensity.clamp(min=clip)
        counterfactual = (1 - given) * bce(1 - label, twin) / (1 - propensity).clamp(min=clip)
        return weight * (factual + counterfactual + term.counterfactual.weight * (1 - own - twin).abs())
    if term.imputation:
        estimate = -torch.log(1 - p[objective.extra_head(term)])  # softplus(x) = -log(1 - sigmoid(x))
        error = bce(label, own)
        inverse = given / propensity.clamp(min=clip)
        squared = term.imputation.weight * inverse * (error - estimate) ** 2
        return weight * (estimate + inverse * (error - estimate) + squared)
    if not given:
        return weight * term.missing * bce(0, own)
    return weight * by_label * bce(label, own) / propensity.clamp(min=clip)
