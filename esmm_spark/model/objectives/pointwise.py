"""The loss of impressions and its gradients, of any terms, in torch: for CUDA and other networks.

It says the same as `pointwise_kernels`, vectorised over impressions, in float64: elementwise operations on a
few thousand numbers cost next to nothing beside the towers, and the gradient keeps its digits.

Shapes: N impressions, H heads, K tasks, C carried columns.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmm_spark.model.objectives.spec import CONSTRAINT, COUNTERFACTUAL, IMPUTATION, NONE, LossSpec


def pointwise_loss(logits: Tensor, labels: Tensor, carried: Tensor, spec: LossSpec) -> Tensor:
    """Returns the loss of each impression, [N] float64: see contracts/losses.py.

    Worked example, ESMM: both logits 0, clicked, not converted: -log 0.5 - log(1 - 0.25) = 0.693 + 0.288.

    Args:
        logits: [H, N] float.
        labels: [K, N]: 1, 0, or below 0 where unknown.
        carried: [C, N], the columns that terms read.
        spec: the terms.

    Raises:
        ValueError: logits or labels are not of these shapes.
    """
    if labels.shape != (len(spec.parents), logits.shape[1]) or logits.dim() != 2:
        raise ValueError(
            f"logits are {tuple(logits.shape)}, labels {tuple(labels.shape)}: they must be [H, N] and "
            f"[{len(spec.parents)}, N]"
        )
    return cast(Tensor, _PointwiseLoss.apply(logits, labels, carried, spec))  # type: ignore[no-untyped-call]


def log_probability(logits: Tensor) -> Tensor:
    """Returns log p [N], p the product of sigmoid(x_h) over the heads of `logits` [heads, N]."""
    return F.logsigmoid(logits).sum(0)


@torch.no_grad()
def log_complement(logits: Tensor) -> Tensor:
    """Returns log(1 - p) [N], p the product of sigmoid(x_h) over the heads of `logits` [heads, N].

    As log1p(-p) it keeps its digits where p is small, which is nearly everywhere in a log with 2 conversions
    in 10,000 impressions; as log(-expm1(log p)) where p is large; and where exp(-x_h) may underflow, it is
    the logarithm of their sum. It has no gradient: `pointwise_loss` has its own.
    """
    log_p = log_probability(logits)
    likely = torch.log(-torch.expm1(log_p))
    sure = torch.logsumexp(-logits, 0)
    unlikely = torch.log1p(-torch.exp(log_p))
    certain = logits.amin(0) > (40.0 if logits.dtype == torch.float64 else 20.0)
    return torch.where(certain, sure, torch.where(log_p < -0.6931471805599453, unlikely, likely))


class _PointwiseLoss(torch.autograd.Function):
    """The losses, whose gradients are computed along with them: closed forms keep their digits everywhere."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, carried: Tensor, spec: LossSpec) -> Tensor:
        terms = _Terms(logits, labels, carried, spec)
        for term in range(len(spec.task)):
            terms.add(term)
        spec.weight_sums[:] = terms.weight_sums.cpu().numpy()
        ctx.save_for_backward(terms.gradients.to(logits.dtype))
        # A NaN must reach the loss, though no term may read this head for this impression.
        return terms.losses + 0.0 * logits.double().sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradients,) = ctx.saved_tensors
        return gradients * upstream.to(gradients.dtype), None, None, None


class _Terms:
    """The sum of the terms added so far, and its gradients.

    Attributes:
        losses: [N].
        gradients: [H, N].
        weight_sums: [T, 2], as in the spec.
    """

    def __init__(self, logits: Tensor, labels: Tensor, carried: Tensor, spec: LossSpec) -> None:
        self.spec, self.x, self.carried = spec, logits.double(), carried.double()
        self.p, self.q = torch.sigmoid(self.x), torch.sigmoid(-self.x)
        self.log_p, self.log_q = F.logsigmoid(self.x), F.logsigmoid(-self.x)
        self.labels = known_labels(labels, spec)
        self.gradients = torch.zeros_like(self.x)
        self.losses = self.x.new_zeros(self.x.shape[1])
        self.weight_sums = self.x.new_zeros(len(spec.task), 2)

    def add(self, term: int) -> None:
        """Adds a term."""
        spec = self.spec
        label = self.labels[spec.task[term]]
        given = torch.ones_like(label) if spec.given[term] == NONE else self.labels[spec.given[term]]
        happened, did_not = (given > 0) & (label >= 0), given == 0
        factor, positives, negatives, missing, clip, extra, *means = spec.factors[term].tolist()
        weight = torch.full_like(self.losses, factor)
        propensity_column, weight_column = spec.columns[term].tolist()
        if weight_column != NONE:
            weight = weight * self.carried[weight_column]
        if spec.kind[term] == CONSTRAINT:
            self._add_constraint(term, weight)
            return
        inverse, inverse_of_rest = self._inverse_propensities(term, propensity_column, clip)
        if spec.normalized[term]:
            self.weight_sums[term, 0] = torch.where(happened, inverse, 0.0).sum()
            if spec.kind[term] == COUNTERFACTUAL:
                self.weight_sums[term, 1] = torch.where(did_not, inverse_of_rest, 0.0).sum()
            inverse, inverse_of_rest = inverse / means[0], inverse_of_rest / means[1]
        if spec.kind[term] == COUNTERFACTUAL:
            own = torch.where(happened, weight * inverse, 0.0)
            twin = torch.where(did_not, weight * inverse_of_rest, 0.0)
            both = torch.where(happened | did_not, weight * extra, 0.0)
            self._add_counterfactual(term, label, own, twin, both)
        elif spec.kind[term] == IMPUTATION:
            known = torch.where(happened | did_not, weight, 0.0)
            self._add_imputation(term, label, known, torch.where(happened, inverse, 0.0), extra)
        else:
            # As tensors: where of two plain numbers is float32.
            by_label = (
                torch.where(label > 0, label.new_tensor(positives), label.new_tensor(negatives)) * inverse
            )
            applies = happened | (did_not if missing > 0 else False)
            factors = torch.where(applies, weight * torch.where(happened, by_label, missing), 0.0)
            self._add_cross_entropy(term, happened & (label > 0), factors)

    def _inverse_propensities(self, term: int, column: int, clip: float) -> tuple[Tensor, Tensor]:
        """Returns 1 / max(p, clip) and 1 / max(1 - p, clip), ones where the term has no propensity."""
        heads = _chain(self.spec.propensity_chain, self.spec.propensity_at, term)
        if column == NONE and not heads:
            return torch.ones_like(self.losses), torch.ones_like(self.losses)
        propensity = self.p[heads].prod(0) if column == NONE else self.carried[column]
        return 1 / propensity.clamp(min=clip), 1 / (1 - propensity).clamp(min=clip)

    def _add_cross_entropy(self, term: int, positive: Tensor, weight: Tensor) -> None:
        """Adds `weight` [N] times the cross entropy of the product of a chain's probabilities."""
        heads = _chain(self.spec.chain, self.spec.chain_at, term)
        if len(heads) == 1:
            self._add_own_cross_entropy(heads[0], positive, weight)
            return
        x, log_p = self.x[heads], log_probability(self.x[heads])
        log_rest = log_complement(x)
        odds_of_rest = torch.exp(log_p + self.log_q[heads] - log_rest)  # q_h p / (1 - p)
        self.losses -= weight * torch.where(positive, log_p, log_rest)
        self.gradients[heads] += weight * torch.where(positive, -self.q[heads], odds_of_rest)

    def _add_own_cross_entropy(self, head: int, positive: Tensor, weight: Tensor) -> None:
        self.losses -= weight * torch.where(positive, self.log_p[head], self.log_q[head])
        self.gradients[head] += weight * torch.where(positive, -self.q[head], self.p[head])

    def _add_counterfactual(self, term: int, label: Tensor, own: Tensor, twin: Tensor, both: Tensor) -> None:
        """Adds DCMT's term; `own`, `twin` and `both` are the weights [N] of its three parts."""
        head, other = int(self.spec.chain[self.spec.chain_at[term]]), int(self.spec.extra_head[term])
        self._add_own_cross_entropy(head, label > 0, own)
        self._add_own_cross_entropy(other, torch.ones_like(label, dtype=torch.bool), twin)
        excess = self.p[head] - self.q[other]  # q + q' - 1
        self.losses += both * excess.abs()
        for each in (head, other):
            self.gradients[each] += both * excess.sign() * (self.p[each] * self.q[each])

    def _add_imputation(
        self, term: int, label: Tensor, weight: Tensor, inverse: Tensor, own_weight: float
    ) -> None:
        """Adds the doubly robust term; `inverse` [N] is 0 where the parent did not happen."""
        head, imputing = int(self.spec.chain[self.spec.chain_at[term]]), int(self.spec.extra_head[term])
        imputed = -self.log_q[imputing]
        error = -torch.where(label > 0, self.log_p[head], self.log_q[head])
        error_slope = torch.where(label > 0, -self.q[head], self.p[head])
        missed = error - imputed
        slope = inverse * (1 + 2 * own_weight * missed)
        self.losses += weight * (imputed + inverse * (missed + own_weight * missed * missed))
        self.gradients[head] += weight * slope * error_slope
        self.gradients[imputing] += weight * (1 - slope) * self.p[imputing]

    def _add_constraint(self, term: int, weight: Tensor) -> None:
        """Adds `weight` [N] times what a task's probability has above another's."""
        chain = _chain(self.spec.chain, self.spec.chain_at, term)
        limiting = _chain(self.spec.propensity_chain, self.spec.propensity_at, term)
        p, most = self.p[chain].prod(0), self.p[limiting].prod(0)
        weight = torch.where(p > most, weight, 0.0)
        self.losses += weight * (p - most)
        self.gradients[chain] += weight * p * self.q[chain]
        self.gradients[limiting] -= weight * most * self.q[limiting]


def known_labels(labels: Tensor, spec: LossSpec) -> Tensor:
    """Returns labels [K, N]: a task's is 0 where that of one of its ancestors is."""
    known = list(labels.double())
    for task, parent in enumerate(spec.parents.tolist()):
        if parent != NONE:
            known[task] = torch.where(known[parent] == 0, 0.0, known[task])
    return torch.stack(known)


def _chain(heads: Any, begins: Any, term: int) -> list[int]:
    return [int(head) for head in heads[begins[term] : begins[term + 1]]]
