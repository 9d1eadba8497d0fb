"""What follows a matrix product in a layer: the group's share or a bias is added, and ReLU or PReLU taken.

On the CPU that is one pass over memory instead of four, forwards, and one instead of five, backwards.

Shapes: N impressions, G groups, H units.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from esmm_spark.model.activation_kernels import activation_gradients, add_and_activate
from esmm_spark.model.kernels import arrays_of, num_threads

# Rows over which a bias's gradient is summed at a time, each such stretch by one thread.
_STRETCH = 64


def grouped_activation(own: Tensor, shares: Tensor, group_index: Tensor, activation: nn.Module) -> Tensor:
    """Returns activation(own + shares[group_index]), [N, H].

    Args:
        own: [N, H], a product that nobody else reads: it may be overwritten.
        shares: [G, H], of the groups.
        group_index: [N] int64, sorted.
        activation: `nn.ReLU`, `nn.PReLU` with H slopes, or any other module.
    """
    if _is_fused(own, activation):
        return _fused(own, shares, group_index, activation)
    return cast(Tensor, activation(shares.index_select(0, group_index) + own))


def biased_activation(linear: nn.Linear, hidden: Tensor, activation: nn.Module) -> Tensor:
    """Returns activation(linear(hidden)), [N, H], for hidden [N, any]."""
    if not _is_fused(hidden, activation):
        return cast(Tensor, activation(linear(hidden)))
    num_rows = len(hidden)
    stretches = torch.arange(num_rows) // _STRETCH
    shares = linear.bias.expand(-(-num_rows // _STRETCH), -1)
    return _fused(F.linear(hidden, linear.weight), shares, stretches, activation)


def _is_fused(x: Tensor, activation: nn.Module) -> bool:
    """Returns whether the kernels serve: for training in float32 on the CPU. Scoring needs no gradients."""
    return (
        isinstance(activation, nn.ReLU | nn.PReLU)
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _fused(own: Tensor, shares: Tensor, groups: Tensor, activation: nn.Module) -> Tensor:
    slopes = activation.weight if isinstance(activation, nn.PReLU) else torch.zeros(1)
    return cast(Tensor, _Fused.apply(own, shares, groups, slopes.expand(own.shape[1])))  # type: ignore[no-untyped-call]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, shares: Tensor, groups: Tensor, slopes: Tensor) -> Tensor:
        out = torch.empty_like(own)
        x, of_groups, index, lower, result = arrays_of(own, shares, groups, slopes, out)
        add_and_activate(x, of_groups, index, lower, result, num_threads())
        ctx.save_for_backward(own, groups, slopes)
        ctx.num_groups = len(shares)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
        x, groups, slopes = ctx.saved_tensors
        threads, width = num_threads(), x.shape[1]
        x_gradient = torch.empty_like(x)
        of_shares, of_slopes = torch.zeros(ctx.num_groups, width), torch.zeros(threads, width)
        upper, values, index, lower = arrays_of(gradient, x, groups, slopes)
        down, shared, sloped = arrays_of(x_gradient, of_shares, of_slopes)
        activation_gradients(upper, values, index, lower, down, shared, sloped, threads)
        return x_gradient, of_shares, None, of_slopes.sum(0)
