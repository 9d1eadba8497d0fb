"""DCN-v2: cross layers, then a multilayer perceptron."""

from collections.abc import Sequence

from torch import Tensor, cat, nn

from esmm_spark.model.grouped.layers import cross_layer
from esmm_spark.model.networks.hidden import checked_hidden
from esmm_spark.model.networks.layers import (
    GroupedLinear,
    checked_count,
    checked_widths,
    initialise,
    layers_after_first,
    linears_of,
)


class Dcn(nn.Module):
    """DCN-v2, stacked: cross layers over all fields, then a multilayer perceptron.

        x_0 = [context, impression],   x_{l+1} = x_0 * (W_l x_l + b_l) + x_l

    Args:
        num_context_features: Fc.
        num_impression_features: Fi.
        dim: D.
        cross_layers: cross layers, at least 1; l of them give products of up to l + 1 fields.
        hidden_units: widths of the perceptron's hidden layers.
        activation: `relu` or `prelu`.
        dropout: the probability that a hidden unit is dropped out in training.
        layer_norm: whether hidden units are normalised before their activation.

    Source: Wang et al., "DCN V2", WWW 2021, equation 1 and figure 1b (stacked).
    """

    def __init__(
        self,
        num_context_features: int,
        num_impression_features: int,
        dim: int,
        cross_layers: int = 2,
        hidden_units: Sequence[int] = (200, 80),
        activation: str = "prelu",
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        checked_count(cross_layers, "cross_layers", "dcn")
        context_width, impression_width = num_context_features * dim, num_impression_features * dim
        width = context_width + impression_width
        self.first_cross = GroupedLinear(context_width, impression_width, width)
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(cross_layers - 1))
        widths = [*checked_widths(hidden_units), 1]
        self.first = nn.Linear(width, widths[0])
        self.rest = layers_after_first(widths, checked_hidden(activation, dropout, layer_norm))
        for linear in (self.first_cross.flat, *linears_of(self.crosses)):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        initialise([self.first, *linears_of(self.rest)])

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns logits [N] for context [G, Fc, D], impression [N, Fi, D] and group_index [N]."""
        context, impression = context.flatten(1), impression.flatten(1)
        x_0 = cat((context.index_select(0, group_index), impression), dim=1)  # [N, (Fc + Fi) * D]
        x = cross_layer(x_0, x_0, self.first_cross(context, impression, group_index))
        for linear in self.crosses:
            x = cross_layer(x, x_0, linear(x))
        logit: Tensor = self.rest(self.first(x)).squeeze(1)
        return logit
