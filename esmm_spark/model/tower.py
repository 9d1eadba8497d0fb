"""A multilayer perceptron over grouped impressions as one step of autograd, for training on the CPU.

Shapes: N impressions, G groups, C and K features of a context and an impression, H hidden units.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from esmm_spark.model.blas import sgemm_address
from esmm_spark.model.kernels import arrays_of, num_threads
from esmm_spark.model.tower_kernels import CHUNK, tower_backward, tower_forward

# Sums over impressions are held once for each stretch: there must not be too many, nor too large ones. Larger
# layers have little to gain, as products take nearly all of their time.
_MOST_STRETCHES = 32
_MOST_PARAMETERS = 1 << 20


def is_compiled(x: Tensor, linears: Sequence[nn.Linear], activations: Sequence[nn.Module]) -> bool:
    """Returns whether the kernels serve: for training in float32 on the CPU. Scoring needs no gradients.

    Args:
        x: an input of the perceptron.
        linears: its layers.
        activations: of its hidden layers, at least one.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and all(isinstance(activation, nn.ReLU | nn.PReLU) for activation in activations)
        and len(activations) > 0
        and sum(linear.weight.numel() for linear in linears) <= _MOST_PARAMETERS
        and sgemm_address() is not None
    )


def compiled_perceptron(
    context: Tensor,
    impression: Tensor,
    group_index: Tensor,
    first: nn.Linear,
    hidden: Sequence[nn.Linear],
    activations: Sequence[nn.Module],
    last: nn.Linear,
) -> Tensor:
    """Returns the logits [N].

    Args:
        context: [G, C].
        impression: [N, K].
        group_index: [N] int64, sorted: the group of each impression.
        first: the first layer, over [context, impression].
        hidden: the hidden layers after it.
        activations: `nn.ReLU` or `nn.PReLU` after `first` and each of `hidden`.
        last: the layer with one output.
    """
    layers = []
    for linear, activation in zip((first, *hidden), activations, strict=True):
        width = linear.out_features
        slopes = activation.weight if isinstance(activation, nn.PReLU) else torch.zeros(1)
        layers += [linear.weight, linear.bias, slopes.expand(width)]
    return cast(
        Tensor,
        _Perceptron.apply(context, impression, group_index, *layers, last.weight, last.bias),  # type: ignore[no-untyped-call]
    )


class _Perceptron(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, context: Tensor, impression: Tensor, groups: Tensor, *parameters: Tensor) -> Tensor:
        first_weight, first_bias, *others = parameters
        address = sgemm_address()
        assert address is not None, "`is_compiled` was not asked"
        of_context, own = torch.split(first_weight, [context.shape[1], impression.shape[1]], dim=1)
        shares = torch.addmm(first_bias, context, of_context.t())
        shapes = [own.shape, *(parameter.shape for parameter in parameters[1:])]
        flat = torch.cat([own.reshape(-1), torch.zeros_like(first_bias), *(p.reshape(-1) for p in others)])
        widths = np.array([impression.shape[1], *(len(weight) for weight in parameters[:-2:3])])
        num_units, num_rows = int(widths[1:].sum()), len(impression)
        inputs, logits = torch.empty(num_rows * num_units), torch.empty(num_rows)
        x, of_groups, index, packed, kept, result = arrays_of(
            impression, shares, groups, flat, inputs, logits
        )
        tower_forward(
            x.reshape(-1),
            of_groups.reshape(-1),
            index,
            widths,
            packed,
            kept,
            result,
            np.empty((num_threads(), CHUNK * num_units), np.float32),
            np.zeros(1, np.int64),
            _stretch(num_rows),
            address,
        )
        ctx.save_for_backward(context, impression, groups, first_weight, flat, inputs)
        ctx.widths, ctx.shapes, ctx.address = widths, shapes, address
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        context, impression, groups, first_weight, flat, inputs = ctx.saved_tensors
        widths, num_rows, num_groups = ctx.widths, len(impression), len(context)
        stretch = _stretch(num_rows)
        num_stretches = -(-num_rows // stretch)
        of_impression = torch.empty_like(impression, memory_format=torch.contiguous_format)
        of_shares = torch.zeros(num_groups, int(widths[1]))
        of_parameters = torch.empty_like(flat)
        upper, x, index, packed, kept = arrays_of(gradient, impression, groups, flat, inputs)
        down, shared, summed = arrays_of(of_impression, of_shares, of_parameters)
        tower_backward(
            upper,
            x.reshape(-1),
            index,
            widths,
            packed,
            kept,
            down.reshape(-1),
            shared.reshape(-1),
            np.empty((num_stretches, int(widths[1])), np.float32),
            np.empty((num_stretches, len(flat)), np.float32),
            summed,
            np.empty((num_threads(), 2 * CHUNK * int(widths[1:].sum())), np.float32),
            np.zeros(1, np.int64),
            stretch,
            ctx.address,
        )
        own, _, *others = (
            part.view(shape)
            for part, shape in zip(
                torch.split(of_parameters, [shape.numel() for shape in ctx.shapes]), ctx.shapes, strict=True
            )
        )
        of_weight = torch.cat((of_shares.t() @ context, own), dim=1)
        of_context = of_shares @ first_weight[:, : context.shape[1]]
        return of_context, of_impression, None, of_weight, of_shares.sum(0), *others


def _stretch(num_rows: int) -> int:
    """Returns how many of so many impressions make a stretch: a multiple of CHUNK."""
    return CHUNK * max(2, -(-num_rows // (CHUNK * _MOST_STRETCHES)))
