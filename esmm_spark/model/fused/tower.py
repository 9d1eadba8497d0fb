"""The loss of multilayer perceptrons over grouped impressions as one fused autograd function, on the CPU.

Shapes: N impressions, G groups, T towers, C and K features of a context and an impression.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from esmm_spark.model.fused.blas import gemm_addresses
from esmm_spark.model.fused.layer_kernels import TowerPlan, Weights
from esmm_spark.model.fused.layout import (
    CHUNK,
    M_MULTIPLE,
    bfloat16_scratch_size,
    padded,
    tower_bfloat16_size,
)
from esmm_spark.model.fused.perceptron import Perceptron
from esmm_spark.model.fused.product_kernels import BFloat16s, pack_bfloat16_weights
from esmm_spark.model.fused.step_arrays import (
    PartialSums,
    Scratch,
    TowerGradients,
    TowerInputs,
    layer_scratch_size,
)
from esmm_spark.model.fused.tower_kernels import train_towers
from esmm_spark.model.kernels.compilation import arrays_of, num_threads
from esmm_spark.model.objectives.pointwise_kernels import loss_scratch_rows
from esmm_spark.model.objectives.spec import LossSpec

_FLOATS_PER_CACHE_LINE = 16
# Each block of impressions or groups has partial sums of its own: there must not be too many.
_MOST_IMPRESSION_BLOCKS = 32
_LEAST_CHUNKS_PER_BLOCK = 512 // CHUNK
_MOST_GROUP_BLOCKS = 16


class FusedInputs(NamedTuple):
    """What towers are trained on.

    Attributes:
        contexts: [X, G, C]; X is 1 where all towers read the same, T where each has its own.
        impressions: [X, N, K].
        group_index: [N] int64, sorted: the group of each impression.
        labels: [tasks, N] float32: 1, 0, or below 0 where unknown.
        carried: [columns, N] float32, what terms read beside.
    """

    contexts: Tensor
    impressions: Tensor
    group_index: Tensor
    labels: Tensor
    carried: Tensor


def fused_loss(inputs: FusedInputs, towers: Sequence[Perceptron], spec: LossSpec, scale: float) -> Tensor:
    """Returns the loss, summed over impressions and multiplied by `scale`.

    Under autocast products are made in bfloat16.

    Args:
        inputs: the batch.
        towers: [T] the layers of each head's.
        spec: the terms of the loss.
        scale: such as 1 / impressions of the global batch.
    """
    parameters = []
    for linears, activations in towers:
        for linear, activation in zip(linears[:-1], activations, strict=True):
            slopes = activation.weight if isinstance(activation, nn.PReLU) else torch.zeros(1)
            parameters += [linear.weight, linear.bias, slopes.expand(linear.out_features)]
        parameters += [linears[-1].weight, linears[-1].bias]
    options = _Options(spec, scale, len(towers), torch.is_autocast_enabled("cpu"))
    with torch.autocast("cpu", enabled=False):
        loss = _FusedLoss.apply(options, *inputs, *parameters)  # type: ignore[no-untyped-call]
    return cast(Tensor, loss)


class _Options(NamedTuple):
    spec: LossSpec
    scale: float
    num_towers: int
    bfloat16: bool


class _FusedLoss(torch.autograd.Function):
    """The loss, whose gradients are computed along with it: `backward` returns them."""

    @staticmethod
    def forward(
        ctx: Any,
        options: _Options,
        contexts: Tensor,
        impressions: Tensor,
        group_index: Tensor,
        labels: Tensor,
        carried: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        spec, scale, num_towers, bfloat16 = options
        addresses = gemm_addresses(bfloat16)
        assert addresses is not None, "`why_not_fused` was not asked"
        (_, num_groups, num_context), num_impressions = contexts.shape, impressions.shape[1]
        block, chunk = block_and_chunk(num_impressions, bfloat16)
        widths = _layer_widths(impressions, parameters[: len(parameters) // num_towers])
        plan = TowerPlan(
            scale,
            widths,
            context_features=num_context,
            num_groups=num_groups,
            impression_block=block,
            chunk=chunk,
            group_block=_multiple(num_groups, M_MULTIPLE, _MOST_GROUP_BLOCKS),
            packed_size=tower_bfloat16_size(num_context, widths) if bfloat16 else 0,
        )
        split = _split_first_layers(parameters, num_context, num_towers)
        flat = torch.cat([parameter.reshape(-1) for parameter in split]).view(num_towers, -1)
        gradients = torch.empty_like(flat)
        context_gradients, impression_gradients = _input_gradients(contexts, impressions, bfloat16)
        inputs = arrays_of(impressions.flatten(1), contexts.flatten(1), group_index, labels, carried)
        (values,) = arrays_of(flat)
        partial_sums = _partial_sums(plan, num_impressions, len(spec.task), values)
        train_towers(
            addresses,
            plan,
            spec,
            Weights(values, _packed_weights(values, plan) if bfloat16 else None, 0),
            TowerInputs(*inputs),
            TowerGradients(*arrays_of(impression_gradients, context_gradients, gradients)),
            partial_sums,
            _scratch(plan, num_towers, len(labels), bfloat16),
        )
        spec.weight_sums[:] = partial_sums.weights.sum(0)
        ctx.save_for_backward(
            context_gradients[:, : contexts[0].numel()].view(contexts.shape),
            impression_gradients[:, : impressions[0].numel()].view(impressions.shape),
            *_join_first_layers(gradients, split, num_towers),
        )
        return torch.tensor(scale * partial_sums.losses.sum(), dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        if float(loss_gradient) != 1.0:
            gradients = [loss_gradient * gradient for gradient in gradients]
        return None, *gradients[:2], None, None, None, *gradients[2:]


def _layer_widths(impressions: Tensor, parameters: Sequence[Tensor]) -> npt.NDArray[np.int64]:
    """Returns [L + 1]: K and the hidden units of each layer, given a tower's weights, biases and slopes."""
    hidden = [len(weight) for weight in parameters[:-2:3]]
    return np.array([impressions.shape[2], *hidden])


def _packed_weights(parameters: npt.NDArray[np.float32], plan: TowerPlan) -> BFloat16s:
    packed = _uninitialised((len(parameters) * plan.packed_size,), torch.int16).view(np.uint16)
    pack_bfloat16_weights(parameters, plan.context_features, plan.widths, num_threads(), packed)
    return packed


def _partial_sums(
    plan: TowerPlan, num_impressions: int, num_terms: int, parameters: npt.NDArray[np.float32]
) -> PartialSums:
    num_towers, num_parameters = parameters.shape
    num_blocks = -(-num_impressions // plan.impression_block)
    num_group_blocks = -(-plan.num_groups // plan.group_block)
    width = int(plan.widths[1])
    context_size = width * plan.context_features
    return PartialSums(
        losses=np.empty(num_blocks),
        weights=np.empty((num_blocks, num_terms, 2)),
        parameters=_uninitialised((num_blocks, num_towers, num_parameters - context_size)),
        boundary=_uninitialised((num_towers, num_blocks, width)),
        context_weights=_uninitialised((num_group_blocks, num_towers, context_size)),
    )


def _scratch(plan: TowerPlan, num_towers: int, num_tasks: int, bfloat16: bool) -> Scratch:
    threads, width, units = num_threads(), int(plan.widths[1]), int(plan.widths[1:].sum())
    size = bfloat16_scratch_size(plan.context_features, plan.widths, CHUNK) if bfloat16 else 0
    return Scratch(
        projections=_uninitialised((num_towers, padded(plan.num_groups) * width)),
        projection_gradients=torch.zeros(num_towers, plan.num_groups * width).numpy(),
        layers=_uninitialised((threads, layer_scratch_size(units, num_towers))),
        bfloat16=_uninitialised((threads, size), torch.int16).view(np.uint16),
        losses=np.empty((threads, loss_scratch_rows(num_towers, num_tasks), CHUNK)),
        counters=np.zeros((4, 1), np.int64),
    )


def _input_gradients(contexts: Tensor, impressions: Tensor, bfloat16: bool) -> tuple[Tensor, Tensor]:
    """Returns uninitialised gradients of contexts [X, G * C] and impressions [X, N * K].

    In bfloat16 G and N are padded. With one input they are one block of memory, as the pooled embeddings are,
    so that they need not be copied together. The second begins at a multiple of 64 bytes: where the first
    begins depends on its size alone.
    """
    num_inputs = len(contexts)
    context_size, impression_size = (
        (padded(x.shape[1]) if bfloat16 else x.shape[1]) * x.shape[2] for x in (contexts, impressions)
    )
    if num_inputs > 1:
        return torch.empty(num_inputs, context_size), torch.empty(num_inputs, impression_size)
    before = -context_size % _FLOATS_PER_CACHE_LINE
    both = torch.empty(1, before + context_size + impression_size)
    return both[:, before : before + context_size], both[:, before + context_size :]


def _split_first_layers(parameters: Sequence[Tensor], num_context: int, num_towers: int) -> list[Tensor]:
    """Returns the parameters, each tower's first weights split into the context's columns and the others."""
    split: list[Tensor] = []
    for number, parameter in enumerate(parameters):
        is_first = number % (len(parameters) // num_towers) == 0
        split += torch.tensor_split(parameter, [num_context], dim=1) if is_first else [parameter]
    return split


def _join_first_layers(flat: Tensor, split: Sequence[Tensor], num_towers: int) -> list[Tensor]:
    """Returns `flat`, in the layout of `split`, in the shapes of the parameters that `split` was made of."""
    pieces = torch.split(flat.view(-1), [parameter.numel() for parameter in split])
    shaped = [piece.view(parameter.shape) for piece, parameter in zip(pieces, split, strict=True)]
    per_tower = len(shaped) // num_towers
    joined = []
    for first in range(0, len(shaped), per_tower):
        joined += [torch.cat(shaped[first : first + 2], dim=1), *shaped[first + 2 : first + per_tower]]
    return joined


def block_and_chunk(num_impressions: int, bfloat16: bool) -> tuple[int, int]:
    """Returns the impressions that a thread takes at a time, and those of them that it takes together."""
    block = _multiple(num_impressions, CHUNK, _MOST_IMPRESSION_BLOCKS, _LEAST_CHUNKS_PER_BLOCK)
    if bfloat16:
        return block, CHUNK  # products are padded to M_MULTIPLE
    # All of one size, so that threads that take as many end together: of 5000 10 x 500, not 9 x 512 and 392.
    block = _even_size(num_impressions, block)
    return block, _even_size(block, CHUNK)


def _even_size(count: int, most: int) -> int:
    """Returns the size, at least 1, of as few equal shares of `count` as possible, at most `most` each."""
    shares = max(1, -(-count // most))
    return max(1, -(-count // shares))


def _multiple(count: int, unit: int, most: int, least: int = 1) -> int:
    """Returns the least multiple of `unit`, and of `least` units, of which at most `most` make `count`."""
    return unit * max(least, -(-count // (unit * most)))


def _uninitialised(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> npt.NDArray[Any]:
    """Returns an uninitialised array of torch's: its memory begins at a multiple of 64 bytes."""
    return cast(npt.NDArray[Any], torch.empty(shape, dtype=dtype).numpy())
