"""Layers over grouped impressions as functions: the product by torch, what follows it in one pass.

In training on the CPU in float32 a function of autograd with compiled kernels; else, and where gradients
aren't needed, torch's operations, which say what the kernels compute.

Shapes: G groups, N impressions, B perceptrons side by side of H units, S gates.
"""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmm_spark.model.grouped.epilogue_kernels import (
    batched_backward,
    batched_forward,
    grouped_backward,
    grouped_forward,
    mix_backward,
    mix_forward,
)
from esmm_spark.model.kernels.compilation import arrays_of, num_threads
from esmm_spark.runtime.arrays import Ints

# Blocks of impressions, each with sums of its own of what is added up over all of them.
_BLOCKS = 16


def why_not_compiled(x: Tensor) -> str | None:
    """Returns why the compiled kernels don't serve for an input, or None where they do."""
    reasons = (
        (x.numel() == 0, "there are no impressions"),
        (x.device.type != "cpu", f"the device is {x.device.type}"),
        (x.dtype != torch.float32, f"the input is {x.dtype}"),
        (torch.is_autocast_enabled("cpu"), "autocast is on"),
        (not torch.is_grad_enabled(), "no gradients are computed"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def grouped_layer(
    inputs: tuple[Tensor, Tensor, Tensor], weight: Tensor, bias: Tensor, slopes: Tensor | None, count: int
) -> Tensor:
    """Returns a layer of B perceptrons over [context, impression] with its activation, [B, N, H].

    The context's share of the product is computed once per group.

    Args:
        inputs: context [G, C], impression [N, K], group_index [N] int64, sorted.
        weight: [B * H, C + K].
        bias: [B * H].
        slopes: [B, H] of PReLU; None for ReLU.
        count: B.
    """
    context, impression, group_index = inputs
    if why_not_compiled(impression) is None:
        own_slopes = weight.new_zeros(count, len(weight) // count) if slopes is None else slopes
        return cast(
            Tensor,
            _GroupedLayer.apply(context, impression, group_index, weight, bias, own_slopes),  # type: ignore[no-untyped-call]
        )
    product = grouped_product(inputs, weight, bias).unflatten(1, (count, -1)).transpose(0, 1)
    return activated(product, slopes)


def grouped_product(inputs: tuple[Tensor, Tensor, Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns W [context, impression] + b, [N, H], the context's share computed once per group.

    Args:
        inputs: context [G, C], impression [N, K], group_index [N] int64, sorted.
        weight: W, [H, C + K].
        bias: b, [H].
    """
    context, impression, group_index = inputs
    width = context.shape[1]
    shares = F.linear(context, weight[:, :width], bias)
    return shares.index_select(0, group_index) + F.linear(impression, weight[:, width:])


def batched_layer(x: Tensor, weight: Tensor, bias: Tensor, slopes: Tensor | None) -> Tensor:
    """Returns a layer of B perceptrons with its activation, [B, N, H].

    Args:
        x: [B, N, K].
        weight: [B, H, K].
        bias: [B, H].
        slopes: [B, H] of PReLU; None for ReLU.
    """
    product = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
    if why_not_compiled(x) is not None:
        return activated(product, slopes)
    own_slopes = torch.zeros_like(bias) if slopes is None else slopes
    return cast(Tensor, _Prelu.apply(product, own_slopes))  # type: ignore[no-untyped-call]


def prelu(x: Tensor, slopes: Tensor) -> Tensor:
    """Returns PReLU of x [N, H] with slopes [H].

    Of 8,192 x 36 numbers torch's own backward pass takes 1.8 ms of a core: it makes each slope's gradient for
    each number before it sums them.
    """
    if why_not_compiled(x) is not None:
        return F.prelu(x, slopes.to(x.dtype))
    return cast(Tensor, _Prelu.apply(x[None], slopes[None])[0])  # type: ignore[no-untyped-call]


def cross_layer(x: Tensor, x_0: Tensor, product: Tensor) -> Tensor:
    """Returns a cross layer of DCN-v2, x + x_0 * product, [N, H]; product is W x + b."""
    if why_not_compiled(x) is not None:
        return x_0 * product + x
    return cast(Tensor, _Cross.apply(x, x_0, product))  # type: ignore[no-untyped-call]


def mix(gates: Tensor, experts: Tensor) -> Tensor:
    """Returns the sums of experts that each gate weighs, [S, N, H].

    Args:
        gates: [N, S, B], each gate's weights of all experts.
        experts: [B, N, H].
    """
    if why_not_compiled(experts) is None and gates.dtype == torch.float32:
        return cast(Tensor, _Mix.apply(gates, experts))  # type: ignore[no-untyped-call]
    return torch.bmm(gates, experts.transpose(0, 1)).transpose(0, 1)


def activated(x: Tensor, slopes: Tensor | None) -> Tensor:
    """Returns PReLU of x [B, N, H] with slopes [B, H], or ReLU where there are none."""
    return F.relu(x) if slopes is None else torch.where(x > 0, x, slopes[:, None] * x)


class _GroupedLayer(torch.autograd.Function):
    """The layer, its activation's input kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        context: Tensor,
        impression: Tensor,
        group_index: Tensor,
        weight: Tensor,
        bias: Tensor,
        slopes: Tensor,
    ) -> Tensor:
        width = context.shape[1]
        shares = torch.addmm(bias, context, weight[:, :width].T)
        pre = torch.mm(impression, weight[:, width:].T)
        out = pre.new_empty(len(slopes), len(impression), slopes.shape[1])
        starts = _block_starts(group_index)
        num_threads()
        grouped_forward(starts, *arrays_of(group_index, shares, slopes, pre, out))
        ctx.save_for_backward(context, impression, group_index, weight, slopes, pre)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        context, impression, group_index, weight, slopes, pre = ctx.saved_tensors
        width, starts = context.shape[1], _block_starts(group_index)
        of_pre = torch.empty_like(pre)
        of_shares = pre.new_zeros(len(context), pre.shape[1])
        sums = pre.new_zeros(len(starts) - 1, *slopes.shape)
        num_threads()
        grouped_backward(
            starts, *arrays_of(group_index, slopes, pre, gradient), *arrays_of(of_pre, of_shares, sums)
        )
        of_weight = torch.cat((of_shares.T @ context, of_pre.T @ impression), dim=1)
        of_context, of_impression = of_shares @ weight[:, :width], of_pre @ weight[:, width:]
        return of_context, of_impression, None, of_weight, of_shares.sum(0), sums.sum(0)


class _Prelu(torch.autograd.Function):
    """PReLU of [B, N, H] with slopes [B, H]."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, slopes: Tensor) -> Tensor:
        out = torch.empty_like(pre, memory_format=torch.contiguous_format)
        num_threads()
        batched_forward(_BLOCKS, *arrays_of(slopes, pre, out))
        ctx.save_for_backward(pre, slopes)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        pre, slopes = ctx.saved_tensors
        of_pre = torch.empty_like(pre, memory_format=torch.contiguous_format)
        sums = pre.new_zeros(_BLOCKS, *slopes.shape)
        num_threads()
        batched_backward(*arrays_of(slopes, pre, gradient, of_pre, sums))
        return of_pre, sums.sum(0)


class _Cross(torch.autograd.Function):
    """The cross layer: autograd's own of `addcmul` goes over the gradient three times as often."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, x_0: Tensor, product: Tensor) -> Tensor:
        ctx.save_for_backward(x_0, product)
        return torch.addcmul(x, x_0, product)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_0, product = ctx.saved_tensors
        return gradient, gradient * product, gradient * x_0


class _Mix(torch.autograd.Function):
    """The mixture of experts."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, experts: Tensor) -> Tensor:
        out = gates.new_empty(gates.shape[1], *experts.shape[1:])
        num_threads()
        mix_forward(_BLOCKS, *arrays_of(gates, experts, out))
        ctx.save_for_backward(gates, experts)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gates, experts = ctx.saved_tensors
        of_gates, of_experts = gates.new_empty(gates.shape), experts.new_empty(experts.shape)
        num_threads()
        mix_backward(_BLOCKS, *arrays_of(gates, experts, gradient, of_gates, of_experts))
        return of_gates, of_experts


def _block_starts(group_index: Tensor) -> Ints:
    """Returns where blocks of impressions begin, each at the first one of a group, and at last N."""
    (groups,) = arrays_of(group_index)
    wanted = np.arange(_BLOCKS) * len(groups) // _BLOCKS
    starts: npt.NDArray[np.int64] = np.unique(np.searchsorted(groups, groups[wanted], side="left"))
    return np.append(starts, len(groups))
