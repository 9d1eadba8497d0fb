"""A loss of one's own: `model.objective: package.module:function`.

    def function(logits, labels, carried):
        return per_impression_terms

    logits     [H, N] float32: a head per task, in their order, then `model.extra_heads`
    labels     [K, N] float32: 1, 0, or below 0 where unknown
    carried    the columns of samples.carry that are numbers, by name, [N] float64 each, NaN where missing
    returns    [N], or [terms, N]: what is summed over impressions and divided by those of the global batch

It must be a sum over impressions: what divides by a number of a batch's own, such as its clicks, would train
another model on another number of ranks. An impression's terms may not depend on other impressions.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.losses import PRESETS
from esmm_spark.runtime.own_code import import_named

OwnLoss = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]


def resolve_loss(name: str) -> OwnLoss:
    """Returns the function `package.module:function`.

    Raises:
        ConfigError: it can't be imported, or is no function.
    """
    allowed = f"allowed are {', '.join(PRESETS)}, or a function of your own as package.module:function"
    found = import_named("model.objective", name, allowed)
    if not callable(found):
        raise ConfigError(f"model.objective = {name!r} is {found!r}, not a function: {allowed}")
    function: OwnLoss = found
    return function


def require_terms(terms: object, name: str, num_impressions: int) -> Tensor:
    """Returns what a function of one's own gave. Raises ConfigError where it isn't [N] or [terms, N]."""
    if not isinstance(terms, Tensor) or terms.dim() not in (1, 2) or terms.shape[-1] != num_impressions:
        is_tensor = isinstance(terms, Tensor)
        found = f"a tensor of shape {tuple(terms.shape)}" if is_tensor else f"a {type(terms).__name__}"  # type: ignore[attr-defined]
        raise ConfigError(
            f"model.objective {name} gave {found} for {num_impressions} impressions: it must give a tensor "
            f"[{num_impressions}] or [terms, {num_impressions}]"
        )
    return terms
