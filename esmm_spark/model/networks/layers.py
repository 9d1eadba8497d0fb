"""What networks are made of: the layer over a group's context and its impressions, perceptrons, options.

Shapes: G groups, N impressions, Fc / Fi context / impression features, D dim, H hidden units.
"""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.model.grouped.layers import grouped_product
from esmm_spark.model.networks.hidden import Hidden, after_linear


class GroupedLinear(nn.Module):
    """A linear layer over [context, impression], which computes the context's share once per group.

    Equals `nn.Linear` on the flat concatenation: W [c, x] + b = Wc c + Wx x + b. Of Ali-CCP's 23 fields 13
    are the context's, and 58 impressions share them.

    Args:
        context_width: Fc * D.
        impression_width: Fi * D.
        out_width: H.
        bias: whether there is a b.
    """

    def __init__(self, context_width: int, impression_width: int, out_width: int, bias: bool = True) -> None:
        super().__init__()
        # One parameter, so that it starts as, and is saved as, the flat layer that it stands for.
        self.flat = nn.Linear(context_width + impression_width, out_width, bias=bias)

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns [N, H] for context [G, Fc * D], impression [N, Fi * D] and group_index [N]."""
        return grouped_product((context, impression, group_index), self.flat.weight, self.flat.bias)


def checked_widths(
    widths: Sequence[int], name: str = "hidden_units", at_least_one: bool = False
) -> list[int]:
    """Returns an option that lists widths of layers.

    Raises:
        ConfigError: it is no list of whole numbers, each at least 1, or it is empty and may not be.
    """
    if isinstance(widths, list | tuple) and all(map(is_count, widths)) and (widths or not at_least_one):
        return list(widths)
    numbers = "one or more whole numbers" if at_least_one else "whole numbers"
    raise ConfigError(f"{name} = {widths!r}: must be a list of {numbers}, each at least 1")


def checked_count(value: int, name: str, network: str) -> int:
    """Returns an option that counts something. Raises ConfigError if it is no whole number, at least 1."""
    if is_count(value):
        return value
    raise ConfigError(f"{name} = {value!r}: network {network} needs a whole number, at least 1")


def is_count(value: object) -> bool:
    """Returns whether an option is a whole number, at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def layers_after_first(widths: Sequence[int], hidden: Hidden) -> nn.Sequential:
    """Returns what follows the first linear layer: activation, linear, ..., the last linear layer bare."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [*after_linear(hidden, width_in), nn.Linear(width_in, width_out)]
    return nn.Sequential(*layers)


def linears_of(module: nn.Module) -> list[nn.Linear]:
    """Returns the linear layers inside a module, in order."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def initialise(linears: Sequence[nn.Linear]) -> None:
    """Draws He's uniform weights for the hidden layers and Xavier's for the last; biases are 0."""
    *hidden, last = linears
    for layer in hidden:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.xavier_uniform_(last.weight)
    for layer in linears:
        nn.init.zeros_(layer.bias)
