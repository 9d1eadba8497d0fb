"""Networks: what turns the pooled fields of an impression and its context into one logit.

A model has one for each head. A network is an `nn.Module` built as

    cls(num_context_features, num_impression_features, dim, **options)

with

    forward(context [G, Fc, D], impression [N, Fi, D], group_index [N] int64) -> logit [N]

where impression i belongs to context `group_index[i]`. `group_index` is sorted. N is at least 1, and at
least 2 in training mode (BatchNorm needs two): a rank whose share of a step is a single impression puts it
through in evaluation mode, and one without impressions doesn't call the network. Buffers of floats are
averaged over the ranks before they are used or kept (training/ranks/buffers.py); others are the first rank's.
Shapes: G groups, N impressions, Fc / Fi context / impression features, D dim, H hidden units.
"""

import inspect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, cat, nn

from esmm_spark.contracts.errors import ConfigError, EsmmSparkError
from esmm_spark.model.fused.perceptron import Perceptron
from esmm_spark.model.own_code import failure, import_named


class GroupedLinear(nn.Module):
    """A linear layer over [context, impression], which computes the context's share once per group.

    Equals `nn.Linear` on the flat concatenation: W [c, x] + b = Wc c + Wx x + b. Of Ali-CCP's 23 fields 13
    are the context's, and 58 impressions share them.

    Args:
        context_width: Fc * D.
        impression_width: Fi * D.
        out_width: H.
    """

    def __init__(self, context_width: int, impression_width: int, out_width: int) -> None:
        super().__init__()
        self.context_width = context_width
        # One parameter, so that it starts as, and is saved as, the flat layer that it stands for.
        self.flat = nn.Linear(context_width + impression_width, out_width)

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns [N, H] for context [G, Fc * D], impression [N, Fi * D] and group_index [N]."""
        weight = self.flat.weight
        shares = F.linear(context, weight[:, : self.context_width], self.flat.bias)
        return shares.index_select(0, group_index) + F.linear(impression, weight[:, self.context_width :])


class Mlp(nn.Module):
    """A multilayer perceptron over all fields, e.g. XDL's ESMM with 200-80 and PReLU.

    Args:
        num_context_features: Fc.
        num_impression_features: Fi.
        dim: D.
        hidden_units: widths of the hidden layers; none leaves a linear model.
        activation: `relu` or `prelu`.
    """

    def __init__(
        self,
        num_context_features: int,
        num_impression_features: int,
        dim: int,
        hidden_units: Sequence[int] = (200, 80),
        activation: str = "prelu",
    ) -> None:
        super().__init__()
        widths = [*_checked_widths(hidden_units), 1]
        self.first = GroupedLinear(num_context_features * dim, num_impression_features * dim, widths[0])
        self.rest = _layers_after_first(widths, activation)
        _initialise([self.first.flat, *_linears(self.rest)])

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns logits [N] for context [G, Fc, D], impression [N, Fi, D] and group_index [N]."""
        x = self.first(context.flatten(1), impression.flatten(1), group_index)
        logit: Tensor = self.rest(x).squeeze(1)
        return logit

    @property
    def layers(self) -> Perceptron:
        """The layers one by one."""
        return Perceptron([self.first.flat, *_linears(self.rest)], list(self.rest)[0::2])


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
    ) -> None:
        super().__init__()
        if not _is_count(cross_layers):
            raise ConfigError(
                f"cross_layers = {cross_layers!r}: network dcn needs a whole number, at least 1 (mlp has 0)"
            )
        context_width, impression_width = num_context_features * dim, num_impression_features * dim
        width = context_width + impression_width
        self.first_cross = GroupedLinear(context_width, impression_width, width)
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(cross_layers - 1))
        widths = [*_checked_widths(hidden_units), 1]
        self.first = nn.Linear(width, widths[0])
        self.rest = _layers_after_first(widths, activation)
        for cross in (self.first_cross.flat, *_linears(self.crosses)):
            nn.init.xavier_uniform_(cross.weight)
            nn.init.zeros_(cross.bias)
        _initialise([self.first, *_linears(self.rest)])

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns logits [N] for context [G, Fc, D], impression [N, Fi, D] and group_index [N]."""
        context, impression = context.flatten(1), impression.flatten(1)
        x_0 = cat((context.index_select(0, group_index), impression), dim=1)  # [N, (Fc + Fi) * D]
        x = x_0 * self.first_cross(context, impression, group_index) + x_0
        for cross in self.crosses:
            x = x_0 * cross(x) + x
        logit: Tensor = self.rest(self.first(x)).squeeze(1)
        return logit


BUILT_IN: Mapping[str, type[nn.Module]] = {"mlp": Mlp, "dcn": Dcn}


def build_network(
    name: str, num_context_features: int, num_impression_features: int, dim: int, /, **options: Any
) -> nn.Module:
    """Returns a new network, its parameters drawn from torch's global random state.

    Args:
        name: `mlp`, `dcn`, or `package.module:Class`.
        num_context_features: Fc.
        num_impression_features: Fi.
        dim: D.
        options: more arguments of the class.

    Raises:
        ConfigError: no such network, or its class doesn't take these arguments or fails with them.
    """
    network_class = resolve_network(name)
    arguments = (num_context_features, num_impression_features, dim)
    try:
        inspect.signature(network_class).bind(*arguments, **options)
    except TypeError as error:
        raise ConfigError(
            f"model.network {name} does not take (num_context_features, num_impression_features, dim"
            f"{''.join(f', {key}={value!r}' for key, value in options.items())}): {error}; "
            f"it is built as {network_class.__name__}{inspect.signature(network_class)}"
        ) from error
    try:
        return network_class(*arguments, **options)
    except EsmmSparkError:
        raise
    except Exception as error:
        raise ConfigError(
            f"model.network {name} can't be built with model.network_options = {options}: {failure(error)}"
        ) from error


def accepted_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of `options` that the constructor of network `name` names. Raises ConfigError."""
    parameters = inspect.signature(resolve_network(name)).parameters
    return {key: value for key, value in options.items() if key in parameters}


def resolve_network(name: str) -> type[nn.Module]:
    """Returns the class of network `name`.

    Raises:
        ConfigError: neither built in nor an importable `package.module:Class` of an `nn.Module`.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    allowed = f"allowed are {', '.join(BUILT_IN)}, or a class of your own as package.module:Class"
    found: object = import_named("model.network", name, allowed)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"model.network = {name!r} is {found!r}, not a torch.nn.Module class: {allowed}")
    return found


def _checked_widths(hidden_units: Sequence[int]) -> Sequence[int]:
    if isinstance(hidden_units, list | tuple) and all(map(_is_count, hidden_units)):
        return hidden_units
    raise ConfigError(f"hidden_units = {hidden_units!r}: must be a list of whole numbers, each at least 1")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _layers_after_first(widths: Sequence[int], activation: str) -> nn.Sequential:
    """Returns what follows the first linear layer: activation, linear, ..., the last linear layer bare."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [_activation(activation, width_in), nn.Linear(width_in, width_out)]
    return nn.Sequential(*layers)


def _activation(name: str, width: int) -> nn.Module:
    if name == "relu":
        return nn.ReLU()
    if name == "prelu":
        # One slope per channel, from 0.25: what PReLU's paper calls channel-wise (He et al., ICCV 2015,
        # section 2.1).
        return nn.PReLU(width, init=0.25)
    raise ConfigError(f"activation = {name!r}: allowed are relu, prelu")


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def _initialise(linears: Sequence[nn.Linear]) -> None:
    """Draws He's uniform weights for the hidden layers and Xavier's for the last; biases are 0."""
    *hidden, last = linears
    for layer in hidden:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.xavier_uniform_(last.weight)
    for layer in linears:
        nn.init.zeros_(layer.bias)
