"""Perceptrons side by side: experts, and the towers of the heads.

What is computed of many at once has them in front: [E, N, H], E experts or towers, N impressions, H units.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from esmm_spark.model.grouped.layers import activated, batched_layer, grouped_layer
from esmm_spark.model.networks.hidden import BatchedLayerNorm, Hidden, dropouts_of, new_slopes
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
        _draw_each(self.weight, nn.init.xavier_uniform_)

    def forward(self, x: Tensor) -> Tensor:
        """Returns [E, N, H] for x [E, N, width]."""
        weight = self.weight.transpose(1, 2)
        return torch.bmm(x, weight) if self.bias is None else torch.baddbmm(self.bias[:, None], x, weight)


class BatchedLayer(nn.Module):
    """E linear layers of one size, each with its activation, and layer norm and dropout where asked for.

    Args:
        count: E.
        width: what goes into each.
        out_width: H.
        hidden: what follows the linear layers.
    """

    def __init__(self, count: int, width: int, out_width: int, hidden: Hidden) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, out_width, width))
        self.bias = nn.Parameter(torch.zeros(count, out_width))
        self.slopes = new_slopes(hidden, count, out_width)
        self.norm = BatchedLayerNorm(count, out_width) if hidden.layer_norm else None
        self.dropout = nn.Sequential(*dropouts_of(hidden))
        _draw_each(self.weight, partial(nn.init.kaiming_uniform_, nonlinearity="relu"))

    def forward(self, x: Tensor) -> Tensor:
        """Returns [E, N, H] for x [E, N, width]."""
        if self.norm is None:
            x = batched_layer(x, self.weight, self.bias, self.slopes)
        else:
            product = torch.baddbmm(self.bias[:, None], x, self.weight.transpose(1, 2))
            x = activated(self.norm(product), self.slopes)
        dropped: Tensor = self.dropout(x)
        return dropped


class GroupedPerceptrons(nn.Module):
    """E perceptrons over [context, impression]: the context's share of all first layers once per group.

    Args:
        count: E.
        context_width: Fc * D.
        impression_width: Fi * D.
        units: widths of the layers, each of which has an activation.
        hidden: what follows each layer.
    """

    def __init__(
        self, count: int, context_width: int, impression_width: int, units: Sequence[int], hidden: Hidden
    ) -> None:
        super().__init__()
        self.count = count
        # All first layers are one, so that they are one product.
        self.first = GroupedLinear(context_width, impression_width, count * units[0])
        self.slopes = new_slopes(hidden, count, units[0])
        self.norm = BatchedLayerNorm(count, units[0]) if hidden.layer_norm else None
        self.dropout = nn.Sequential(*dropouts_of(hidden))
        self.rest = batched_perceptrons(count, units[0], units[1:], hidden)
        nn.init.kaiming_uniform_(self.first.flat.weight, nonlinearity="relu")
        nn.init.zeros_(self.first.flat.bias)

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns [E, N, H] for context [G, Fc * D], impression [N, Fi * D] and group_index [N]."""
        first, inputs = self.first.flat, (context, impression, group_index)
        if self.norm is None:
            x = grouped_layer(inputs, first.weight, first.bias, self.slopes, self.count)
        else:
            product = self.first(*inputs).unflatten(1, (self.count, -1)).transpose(0, 1)
            x = activated(self.norm(product), self.slopes)
        found: Tensor = self.rest(self.dropout(x))
        return found


class Towers(nn.Module):
    """A perceptron with one output for each head.

    Args:
        num_heads: H.
        width: what goes into each.
        units: widths of the hidden layers, none for a linear tower.
        hidden: what follows each layer.
    """

    def __init__(self, num_heads: int, width: int, units: Sequence[int], hidden: Hidden) -> None:
        super().__init__()
        self.hidden = batched_perceptrons(num_heads, width, units, hidden)
        self.last = BatchedLinear(num_heads, [width, *units][-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [H, N] for x [H, N, width]."""
        logits: Tensor = self.last(self.hidden(x)).squeeze(2)
        return logits


def batched_perceptrons(count: int, width: int, units: Sequence[int], hidden: Hidden) -> nn.Sequential:
    """Returns the layers of E perceptrons of one shape, each with an activation.

    Args:
        count: E.
        width: what goes into each.
        units: widths of the layers.
        hidden: what follows each layer.
    """
    sizes = itertools.pairwise([width, *units])
    return nn.Sequential(*(BatchedLayer(count, *size, hidden) for size in sizes))


def _draw_each(weight: Tensor, draw: Callable[[Tensor], Tensor]) -> None:
    """Draws the initial weights [E, ...] of each perceptron.

    Not on the meta device, where what a model takes is worked out: three million views take minutes.
    """
    if not weight.is_meta:
        for own in weight:
            draw(own)
