"""The multilayer perceptron, which `model.fused` trains in one step."""

from collections.abc import Sequence

from torch import Tensor, nn

from esmm_spark.model.fused.perceptron import Perceptron
from esmm_spark.model.networks.hidden import checked_hidden
from esmm_spark.model.networks.layers import (
    GroupedLinear,
    checked_widths,
    initialise,
    layers_after_first,
    linears_of,
)


class Mlp(nn.Module):
    """A multilayer perceptron over all fields, e.g. XDL's ESMM with 200-80 and PReLU.

    Args:
        num_context_features: Fc.
        num_impression_features: Fi.
        dim: D.
        hidden_units: widths of the hidden layers; none leaves a linear model.
        activation: `relu` or `prelu`.
        dropout: the probability that a hidden unit is dropped out in training.
        layer_norm: whether hidden units are normalised before their activation.
    """

    def __init__(
        self,
        num_context_features: int,
        num_impression_features: int,
        dim: int,
        hidden_units: Sequence[int] = (200, 80),
        activation: str = "prelu",
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.hidden = checked_hidden(activation, dropout, layer_norm)
        widths = [*checked_widths(hidden_units), 1]
        self.first = GroupedLinear(num_context_features * dim, num_impression_features * dim, widths[0])
        self.rest = layers_after_first(widths, self.hidden)
        initialise([self.first.flat, *linears_of(self.rest)])

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns logits [N] for context [G, Fc, D], impression [N, Fi, D] and group_index [N]."""
        x = self.first(context.flatten(1), impression.flatten(1), group_index)
        logit: Tensor = self.rest(x).squeeze(1)
        return logit

    @property
    def layers(self) -> Perceptron:
        """The layers one by one."""
        between = [layer for layer in self.rest if not isinstance(layer, nn.Linear)]
        return Perceptron([self.first.flat, *linears_of(self.rest)], between)
