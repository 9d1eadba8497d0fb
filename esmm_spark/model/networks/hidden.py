"""What follows the linear layers of hidden units: [layer norm], activation, [dropout].

Shapes: N impressions, H units, E perceptrons side by side.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.model.grouped.layers import prelu
from esmm_spark.model.networks.dropout import KeyedDropout

# One slope per unit: what PReLU's paper calls channel-wise (He et al., ICCV 2015, section 2.1).
_FIRST_SLOPE = 0.25


class Hidden(NamedTuple):
    """The options of hidden layers.

    Attributes:
        activation: `relu` or `prelu`.
        dropout: the probability that a unit is dropped out, after the activation; 0 leaves dropout out.
        layer_norm: whether units are normalised before the activation.

    Source: Ba et al., "Layer Normalization", 2016, equation 4.
    """

    activation: str = "prelu"
    dropout: float = 0.0
    layer_norm: bool = False

    @property
    def extras(self) -> str:
        """What it has beside an activation, for messages; empty where it has nothing."""
        named = {"dropout": self.dropout > 0, "layer norm": self.layer_norm}
        return " and ".join(name for name, is_there in named.items() if is_there)


def checked_hidden(activation: str, dropout: float = 0.0, layer_norm: bool = False) -> Hidden:
    """Returns the options of hidden layers. Raises ConfigError where one is out of range."""
    if activation not in ("relu", "prelu"):
        raise ConfigError(f"activation = {activation!r}: allowed are relu, prelu")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigError(f"dropout = {dropout!r}: must be a probability, at least 0 and below 1")
    if not isinstance(layer_norm, bool):
        raise ConfigError(f"layer_norm = {layer_norm!r}: must be true or false")
    return Hidden(activation, dropout, layer_norm)


def after_linear(hidden: Hidden, width: int) -> list[nn.Module]:
    """Returns the layers between a linear layer of H units and the next one."""
    activation = nn.ReLU() if hidden.activation == "relu" else Prelu(width, init=_FIRST_SLOPE)
    normalisation = [nn.LayerNorm(width)] if hidden.layer_norm else []
    return [*normalisation, activation, *dropouts_of(hidden)]


def dropouts_of(hidden: Hidden) -> list[KeyedDropout]:
    """Returns a dropout, or nothing where there is none."""
    return [KeyedDropout(hidden.dropout)] if hidden.dropout > 0 else []


class Prelu(nn.PReLU):
    """`nn.PReLU` of [N, H], compiled where the grouped layers are."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns [N, H] for x [N, H]."""
        return prelu(x, self.weight)


def new_slopes(hidden: Hidden, count: int, width: int) -> nn.Parameter | None:
    """Returns PReLU's slopes, one for each unit of each of E perceptrons, [E, H]; None for ReLU."""
    return nn.Parameter(torch.full((count, width), _FIRST_SLOPE)) if hidden.activation == "prelu" else None


class BatchedLayerNorm(nn.Module):
    """Layer norm of E perceptrons side by side, with gains and biases of their own.

    Args:
        count: E.
        width: H.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(count, width))
        self.bias = nn.Parameter(torch.zeros(count, width))

    def forward(self, x: Tensor) -> Tensor:
        """Returns [E, N, H] for x [E, N, H]."""
        return F.layer_norm(x, x.shape[-1:]) * self.gain[:, None] + self.bias[:, None]
