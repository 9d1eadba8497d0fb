"""AITM: a tower per head; attention mixes in what the head before it transfers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from esmm_spark.model.networks.experts import BatchedLayer, BatchedLinear, GroupedPerceptrons
from esmm_spark.model.networks.hidden import Hidden, checked_hidden
from esmm_spark.model.networks.layers import checked_widths


class Aitm(nn.Module):
    """Adaptive information transfer, for all heads at once: they follow each other as the tasks do.

    Head t has a tower q_t = f_t([context, impression]) of width k. From the second head on, what the head
    before it knows, p_t, and q_t are mixed by attention:

        z_1 = q_1,   p_t = g_t(z_(t-1)),   z_t = w_p h1(p_t) + w_q h1(q_t),   logit_t = l_t(z_t)
        (w_p, w_q) = softmax over u in (p_t, q_t) of <h2(u), h3(u)> / sqrt(k)

    g_t is a layer with an activation, h1, h2 and h3 of each head are linear. The paper's constraint, that a
    task is no more likely than the one before it, is a term of the loss: `not_above`.

    Args:
        num_context_features: Fc.
        num_impression_features: Fi.
        dim: D.
        num_heads: H.
        tower_units: widths of a tower's layers, each with an activation; the last is k.
        activation: `relu` or `prelu`.
        dropout: the probability that a hidden unit is dropped out in training.
        layer_norm: whether hidden units are normalised before their activation.

    Source: Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions with
    Multi-task Learning in Targeted Display Advertising", KDD 2021 (arXiv 2105.08489), section 3.3.
    """

    def __init__(
        self,
        num_context_features: int,
        num_impression_features: int,
        dim: int,
        num_heads: int,
        tower_units: Sequence[int] = (128, 64, 32),
        activation: str = "prelu",
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        hidden = checked_hidden(activation, dropout, layer_norm)
        widths = num_context_features * dim, num_impression_features * dim
        units = checked_widths(tower_units, "tower_units", at_least_one=True)
        self.towers = GroupedPerceptrons(num_heads, *widths, units, hidden)
        self.transfers = nn.ModuleList(_Transfer(units[-1], hidden) for _ in range(num_heads - 1))
        self.last = BatchedLinear(num_heads, units[-1], 1)

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns logits [H, N] for context [G, Fc, D], impression [N, Fi, D] and group_index [N]."""
        first, *others = self.towers(context.flatten(1), impression.flatten(1), group_index).unbind()
        known = [first]
        for own, transfer in zip(others, self.transfers, strict=True):
            known.append(transfer(known[-1], own))
        logits: Tensor = self.last(torch.stack(known)).squeeze(2)
        return logits


class _Transfer(nn.Module):
    """Attention over a head's own tower and what the head before it transfers.

    Args:
        width: k.
        hidden: the options of g_t.
    """

    def __init__(self, width: int, hidden: Hidden) -> None:
        super().__init__()
        self.transferred = BatchedLayer(1, width, width, hidden)
        # h1, h2 and h3, one below the other.
        self.attention = nn.Linear(width, 3 * width, bias=False)
        for weight in self.attention.weight.detach().chunk(3):
            nn.init.xavier_uniform_(weight)

    def forward(self, before: Tensor, own: Tensor) -> Tensor:
        """Returns z_t [N, k] for z_(t-1) and q_t, [N, k] each."""
        both = torch.cat((self.transferred(before[None]), own[None]))
        values, queries, keys = self.attention(both).chunk(3, dim=2)
        weights = ((queries * keys).sum(2) / math.sqrt(own.shape[1])).softmax(0)
        mixed: Tensor = (weights[:, :, None] * values).sum(0)
        return mixed
