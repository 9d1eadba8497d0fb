"""From logits to the probabilities of tasks, conditional and in the entire space.

Shapes: N impressions, H heads, K tasks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from esmm_spark.contracts.losses import Space
from esmm_spark.contracts.objective import Objective
from esmm_spark.model.objectives.pointwise import log_complement, log_probability

# Of a quotient of two probabilities, which may come out above 1: the largest float32 below 1.
_LARGEST = 1 - 2.0**-24


def predict(logits: Tensor, objective: Objective) -> Tensor:
    """Returns the probabilities of all tasks, [columns, N] float32, as `tasks.all_score_columns` has them.

    Entire-space probabilities come from log space, so that they are right where all factors are tiny.

    Args:
        logits: [H, N] float.
        objective: says what each head is of.
    """
    logits = logits.float()
    found: dict[str, Tensor] = {}
    for name in objective.tasks.names:
        columns = objective.tasks.score_columns(name)
        found[columns.entire] = _probability(logits, objective, name, "entire")
        found[columns.conditional] = _probability(logits, objective, name, "given")
    return torch.stack([found[column] for column in objective.tasks.all_score_columns])


def _probability(logits: Tensor, objective: Objective, task: str, space: Space) -> Tensor:
    heads = _heads(objective, task, space)
    if heads is not None and len(heads) == 1:
        return torch.sigmoid(logits[heads[0]])
    return log_probabilities(logits, objective, task, space)[0].exp()


def log_probabilities(logits: Tensor, objective: Objective, task: str, space: Space) -> tuple[Tensor, Tensor]:
    """Returns the logarithms of a task's probability and of its complement, [N] each.

    Args:
        logits: [H, N] float.
        objective: says what each head is of.
        task: its name.
        space: `given`: P(task | parent); `entire`: P(task | impression).
    """
    heads = _heads(objective, task, space)
    if heads is None:
        parent = objective.tasks.parent(task)
        assert parent is not None
        quotient = _log_entire(logits, objective, task) - _log_entire(logits, objective, parent)
        quotient = quotient.clamp(max=_LARGEST - 1)
        return quotient, torch.log(-torch.expm1(quotient))
    if len(heads) == 1:
        return F.logsigmoid(logits[heads[0]]), F.logsigmoid(-logits[heads[0]])
    return log_probability(logits[heads]), log_complement(logits[heads])


def _heads(objective: Objective, task: str, space: Space) -> list[int] | None:
    """Returns the heads whose product is the probability, None where it is a quotient of two tasks'."""
    if space == "entire" or objective.tasks.parent(task) is None:
        return list(objective.entire_heads(task))
    return [objective.tasks.names.index(task)] if objective.head_space == "given" else None


def _log_entire(logits: Tensor, objective: Objective, task: str) -> Tensor:
    return log_probability(logits[list(objective.entire_heads(task))])
