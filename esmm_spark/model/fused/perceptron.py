"""A multilayer perceptron layer by layer, and whether the fused kernels can train it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esmm_spark.model.fused.blas import gemm_addresses

# Each block of impressions or groups has partial sums of all parameters: they must not be too large. Larger
# layers have little to gain, as products take nearly all of their time.
_MOST_PARAMETERS = 1 << 20


class Perceptron(NamedTuple):
    """The layers of a tower.

    Attributes:
        linears: the first is over [context, impression], the last has one output.
        activations: what follows each but the last.
    """

    linears: Sequence[nn.Linear]
    activations: Sequence[nn.Module]


def why_not_fused(x: Tensor, towers: Sequence[Perceptron]) -> str | None:
    """Returns why `fused_loss` can't train the towers, or None where it can.

    It serves training on the CPU in float32, or in bfloat16 where the CPU has instructions for it.

    Args:
        x: an input of the towers.
        towers: those of a model.
    """
    bfloat16 = torch.is_autocast_enabled("cpu")
    reasons = (
        (x.device.type != "cpu", f"the device is {x.device.type}"),
        (x.dtype != torch.float32, f"the input is {x.dtype}"),
        (not torch.is_grad_enabled(), "no gradients are computed"),
        (len({_widths(tower) for tower in towers}) != 1, "the towers' widths differ"),
        (not all(_is_perceptron(tower) for tower in towers), "a tower is no perceptron with ReLU or PReLU"),
        (
            any(_num_weights(tower) > _MOST_PARAMETERS for tower in towers),
            f"a tower has more than {_MOST_PARAMETERS} weights",
        ),
        (
            bfloat16 and torch.get_autocast_dtype("cpu") != torch.bfloat16,
            "autocast is to a type other than bfloat16",
        ),
        (
            gemm_addresses(bfloat16) is None,
            "torch or this CPU has no bfloat16 products" if bfloat16 else "torch exports no sgemm",
        ),
    )
    return next((reason for holds, reason in reasons if holds), None)


def _widths(tower: Perceptron) -> tuple[int, ...]:
    return tuple(linear.in_features for linear in tower.linears)


def _num_weights(tower: Perceptron) -> int:
    return sum(linear.weight.numel() for linear in tower.linears)


def _is_perceptron(tower: Perceptron) -> bool:
    return (
        all(isinstance(activation, nn.ReLU | nn.PReLU) for activation in tower.activations)
        and len(tower.activations) == len(tower.linears) - 1 > 0
    )
