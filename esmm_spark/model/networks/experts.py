"""Perceptrons side by side: experts, the gates that mix them, and the towers of the heads.

What is computed of many at once has them in front: [E, N, H], E experts or towers, N impressions, H units.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.model.networks.layers import GroupedLinear


class BatchedLinear(nn.Module):
    """E linear layers of one size: layer e maps x[e] to x[e] W[e]^T + b[e].

    Args:
        count: E.
        width: what goes into each.
        out_width: H.
        bias: whether there is a b.
    """

    def __init__(self, count: int, width: int, out_width: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, out_width, width))
        self.bias = nn.Parameter(torch.zeros(count, out_width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns [E, N, H] for x [E, N, width]."""
        weight = self.weight.transpose(1, 2)
        return torch.bmm(x, weight) if self.bias is None else torch.baddbmm(self.bias[:, None], x, weight)


class BatchedActivation(nn.Module):
    """ReLU, or PReLU with a slope for each unit of each of E perceptrons, from 0.25.

    Args:
        activation: `relu` or `prelu`.
        count: E.
        width: H.
    """

    def __init__(self, activation: str, count: int, width: int) -> None:
        super().__init__()
        if activation not in ("relu", "prelu"):
            raise ConfigError(f"activation = {activation!r}: allowed are relu, prelu")
        self.weight = nn.Parameter(torch.full((count, width), 0.25)) if activation == "prelu" else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns [E, N, H] for x [E, N, H]."""
        return F.relu(x) if self.weight is None else torch.where(x > 0, x, self.weight[:, None] * x)


class BatchedPerceptrons(nn.Module):
    """E perceptrons of the same widths: linear, activation, linear, activation, ...

    Args:
        count: E.
        width: what goes into each.
        units: widths of the layers, each of which has an activation.
        activation: `relu` or `prelu`.
    """

    def __init__(self, count: int, width: int, units: Sequence[int], activation: str) -> None:
        super().__init__()
        sizes = list(itertools.pairwise([width, *units]))
        linears = [BatchedLinear(count, *size) for size in sizes]
        self.linears = nn.ModuleList(linears)
        self.activations = nn.ModuleList(BatchedActivation(activation, count, out) for _, out in sizes)
        for linear in linears:
            initialise_batched(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Returns [E, N, H] for x [E, N, width]."""
        for linear, activation in zip(self.linears, self.activations, strict=True):
            x = activation(linear(x))
        return x


class GroupedPerceptrons(nn.Module):
    """E perceptrons over [context, impression]: the context's share of all first layers once per group.

    Args:
        count: E.
        context_width: Fc * D.
        impression_width: Fi * D.
        units: widths of the layers, each of which has an activation.
        activation: `relu` or `prelu`.
    """

    def __init__(
        self, count: int, context_width: int, impression_width: int, units: Sequence[int], activation: str
    ) -> None:
        super().__init__()
        self.count = count
        # All first layers are one, so that they are one product.
        self.first = GroupedLinear(context_width, impression_width, count * units[0])
        self.first_activation = BatchedActivation(activation, count, units[0])
        self.rest = BatchedPerceptrons(count, units[0], units[1:], activation)
        nn.init.kaiming_uniform_(self.first.flat.weight, nonlinearity="relu")
        nn.init.zeros_(self.first.flat.bias)

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns [E, N, H] for context [G, Fc * D], impression [N, Fi * D] and group_index [N]."""
        x = self.first(context, impression, group_index).unflatten(1, (self.count, -1)).transpose(0, 1)
        found: Tensor = self.rest(self.first_activation(x))
        return found


class Towers(nn.Module):
    """A perceptron with one output for each head.

    Args:
        num_heads: H.
        width: what goes into each.
        units: widths of the hidden layers, none for a linear tower.
        activation: `relu` or `prelu`.
    """

    def __init__(self, num_heads: int, width: int, units: Sequence[int], activation: str) -> None:
        super().__init__()
        self.hidden = BatchedPerceptrons(num_heads, width, units, activation)
        self.last = BatchedLinear(num_heads, [width, *units][-1], 1)
        for weight in self.last.weight:
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [H, N] for x [H, N, width]."""
        logits: Tensor = self.last(self.hidden(x)).squeeze(2)
        return logits


def mix(gates: Tensor, experts: Tensor) -> Tensor:
    """Returns the sums of experts that each gate weighs, [S, N, H].

    Args:
        gates: [N, S, E], S gates' weights of all experts.
        experts: [E, N, H].
    """
    return torch.bmm(gates, experts.transpose(0, 1)).transpose(0, 1)


def initialise_batched(weight: Tensor) -> None:
    """Draws He's uniform weights for each layer of [E, H, width], as `layers.initialise` for hidden ones."""
    for own in weight:
        nn.init.kaiming_uniform_(own, nonlinearity="relu")
