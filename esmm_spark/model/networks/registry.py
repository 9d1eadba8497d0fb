"""Networks: what turns the pooled fields of an impression and its context into logits.

A network is an `nn.Module` of one of two kinds. One that gives a single logit is built once for each head:

    cls(num_context_features, num_impression_features, dim, **options)
    forward(context [G, Fc, D], impression [N, Fi, D], group_index [N] int64) -> logit [N]

One whose constructor names `num_heads` is built once, and gives the logits of all heads:

    cls(num_context_features, num_impression_features, dim, num_heads=H, **options)
    forward(context [G, Fc, D], impression [N, Fi, D], group_index [N] int64) -> logits [H, N]

where impression i belongs to context `group_index[i]`. `group_index` is sorted. The context's features are
its pooled fields; one whose `forward` names `sequences` gets those with `pooling: none` as well:

    forward(context, impression, group_index, sequences: Sequence[ValueSequence])

in the order of `FeatureSpec.sequence_fields`. One whose constructor names `feature_spec` is told the fields.

N is at least 1, and at least 2 in training mode (BatchNorm needs two): a rank whose share of a step is a
single impression puts it through in evaluation mode, and one without impressions doesn't call the network.
Buffers of floats are averaged over the ranks before they are used or kept (training/ranks/buffers.py); others
are the first rank's.
Shapes: G groups, N impressions, Fc / Fi context / impression features, D dim, H heads.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from esmm_spark.contracts.errors import ConfigError, EsmmSparkError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.model.networks.aitm import Aitm
from esmm_spark.model.networks.dcn import Dcn
from esmm_spark.model.networks.din import Din
from esmm_spark.model.networks.mlp import Mlp
from esmm_spark.model.networks.mmoe import Mmoe
from esmm_spark.model.networks.ple import Ple
from esmm_spark.runtime.own_code import failure, import_named

BUILT_IN: Mapping[str, type[nn.Module]] = {
    "mlp": Mlp,
    "dcn": Dcn,
    "din": Din,
    "mmoe": Mmoe,
    "ple": Ple,
    "aitm": Aitm,
}


def build_networks(
    name: str,
    num_heads: int,
    num_context_features: int,
    num_impression_features: int,
    dim: int,
    /,
    **options: Any,
) -> list[nn.Module]:
    """Returns a new network of all heads, or one for each head, [H], in their order.

    Args:
        name: as of `build_network`.
        num_heads: H.
        num_context_features: Fc.
        num_impression_features: Fi.
        dim: D.
        options: more arguments of the class.

    Raises:
        ConfigError: as of `build_network`; `num_heads` is among the options.
    """
    sizes = num_context_features, num_impression_features, dim
    if not gives_all_heads(resolve_network(name)):
        return [build_network(name, *sizes, **options) for _ in range(num_heads)]
    if "num_heads" in options:
        raise ConfigError(
            f"model.network_options has num_heads = {options['num_heads']!r}, but these are the {num_heads} "
            f"heads of the objective: leave it out; attention's heads need another name in {name}"
        )
    return [build_network(name, *sizes, num_heads=num_heads, **options)]


def gives_all_heads(network: type[nn.Module]) -> bool:
    """Returns whether one network of this class gives the logits of all heads."""
    return "num_heads" in inspect.signature(network).parameters


def build_network(
    name: str, num_context_features: int, num_impression_features: int, dim: int, /, **options: Any
) -> nn.Module:
    """Returns a new network, its parameters drawn from torch's global random state.

    Args:
        name: `mlp`, `dcn`, `din`, or `package.module:Class`.
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


def takes_sequences(network: type[nn.Module]) -> bool:
    """Returns whether a network of this class reads the fields that aren't pooled."""
    return "sequences" in inspect.signature(network.forward).parameters


def require_sequences_taken(name: str, spec: FeatureSpec) -> None:
    """Raises ConfigError if there are fields that aren't pooled, but network `name` reads none."""
    unpooled = [field.name for field in spec.sequence_fields]
    if unpooled and not takes_sequences(resolve_network(name)):
        takers = [taker for taker, network in BUILT_IN.items() if takes_sequences(network)]
        raise ConfigError(
            f"features.fields {', '.join(unpooled)} have pooling: none, but model.network {name} takes "
            f"pooled fields only: pool them by sum or mean, or set model.network to {', '.join(takers)} or a "
            "class of your own whose forward names `sequences`"
        )


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
