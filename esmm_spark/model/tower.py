"""The loss of two multilayer perceptrons over grouped impressions as one step of autograd, on the CPU.

Shapes: N impressions, G groups, C and K features of a context and an impression.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from esmm_spark.model.blas import product_addresses
from esmm_spark.model.kernels import arrays_of, num_threads
from esmm_spark.model.layer_kernels import CHUNK
from esmm_spark.model.loss_kernels import BASE, ESMM
from esmm_spark.model.product_kernels import ROWS, half_room, narrow_weights, padded, tower_halves
from esmm_spark.model.share_kernels import Sizes
from esmm_spark.model.tower_kernels import scratch_size, train_towers

# Sums over impressions and groups are held once for each stretch and block: there must not be too many, nor
# too large ones. Larger layers have little to gain, as products take nearly all of their time.
_TOWERS = 2
_NUMBERS_PER_LINE = 16
_MOST_STRETCHES = 32
_LEAST_STRETCH = 512 // CHUNK
_MOST_BLOCKS = 16
_MOST_PARAMETERS = 1 << 20


class Perceptron(NamedTuple):
    """The layers of a tower.

    Attributes:
        linears: the first is over [context, impression], the last has one output.
        activations: what follows each but the last.
    """

    linears: Sequence[nn.Linear]
    activations: Sequence[nn.Module]


def are_compiled(x: Tensor, towers: Sequence[Perceptron]) -> bool:
    """Returns whether the kernels serve: for training on the CPU; scoring needs no gradients.

    In float32, or in bfloat16 where the CPU has instructions for it.

    Args:
        x: an input of the towers.
        towers: those of a model.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.is_grad_enabled()
        and len({_widths(tower) for tower in towers}) == 1
        and all(_is_plain(tower) for tower in towers)
        and (not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") == torch.bfloat16)
        and product_addresses(torch.is_autocast_enabled("cpu")) is not None
    )


def _widths(tower: Perceptron) -> tuple[int, ...]:
    return tuple(linear.in_features for linear in tower.linears)


def _is_plain(tower: Perceptron) -> bool:
    return (
        all(isinstance(activation, nn.ReLU | nn.PReLU) for activation in tower.activations)
        and len(tower.activations) == len(tower.linears) - 1 > 0
        and sum(linear.weight.numel() for linear in tower.linears) <= _MOST_PARAMETERS
    )


def compiled_loss(
    context: Tensor,
    impression: Tensor,
    group_index: Tensor,
    labels: Tensor,
    towers: Sequence[Perceptron],
    objective: str,
    scale: float,
) -> Tensor:
    """Returns the loss, summed over impressions and multiplied by `scale`.

    Under autocast products are made in bfloat16.

    Args:
        context: [X, G, C], X = 1 for both towers or 2 for one each.
        impression: [X, N, K].
        group_index: [N] int64, sorted: the group of each impression.
        labels: [2, N] float32, click and conversion.
        towers: the CTR tower's and the CVR tower's layers.
        objective: `esmm` or `base`.
        scale: such as 1 / impressions of the global batch.
    """
    parameters = []
    for linears, activations in towers:
        for linear, activation in zip(linears[:-1], activations, strict=True):
            slopes = activation.weight if isinstance(activation, nn.PReLU) else torch.zeros(1)
            parameters += [linear.weight, linear.bias, slopes.expand(linear.out_features)]
        parameters += [linears[-1].weight, linears[-1].bias]
    how = BASE if objective == "base" else ESMM, scale, torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False):
        loss = _TowersLoss.apply(how, context, impression, group_index, labels, *parameters)  # type: ignore[no-untyped-call]
    return cast(Tensor, loss)


class _TowersLoss(torch.autograd.Function):
    """The loss with its gradients, which are made along with it."""

    @staticmethod
    def forward(
        ctx: Any,
        how: tuple[int, float, bool],
        context: Tensor,
        impression: Tensor,
        groups: Tensor,
        labels: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        objective, scale, in_halves = how
        addresses = product_addresses(in_halves)
        assert addresses is not None, "`are_compiled` was not asked"
        (num_inputs, num_groups, num_context), (_, num_rows, num_own) = context.shape, impression.shape
        pieces = _pieces(parameters, num_context)
        flat = torch.cat([piece.reshape(-1) for piece in pieces]).view(_TOWERS, -1)
        widths = np.array(
            [num_own, *(len(weight) for weight in parameters[: len(parameters) // _TOWERS - 2 : 3])]
        )
        first_width, num_units = int(widths[1]), int(widths[1:].sum())
        of_context, of_impression = _input_gradients(
            num_inputs,
            (padded(num_groups) if in_halves else num_groups) * num_context,
            (padded(num_rows) if in_halves else num_rows) * num_own,
        )
        gradients = torch.empty_like(flat)
        halves = None
        packed, sums = arrays_of(flat, gradients)
        if in_halves:
            halves = _room(_TOWERS * tower_halves(num_context, widths), torch.int16).view(np.uint16)
            narrow_weights(packed, num_context, widths, num_threads(), halves)
        sizes = Sizes(
            num_groups,
            num_context,
            *stretch_and_chunk(num_rows, in_halves),
            _multiple(num_groups, ROWS, _MOST_BLOCKS),
            0 if halves is None else len(halves) // _TOWERS,
        )
        num_stretches, num_blocks = -(-num_rows // sizes.stretch), -(-num_groups // sizes.block)
        losses, narrow = np.empty(num_stretches), half_room(num_context, widths, CHUNK) if in_halves else 0
        x, of_groups, index, both_labels = arrays_of(impression, context, groups, labels)
        down, down_groups = arrays_of(of_impression, of_context)
        train_towers(
            x.reshape(num_inputs, -1),
            of_groups.reshape(num_inputs, -1),
            index,
            both_labels,
            objective,
            scale,
            sizes,
            widths,
            packed,
            halves,
            _room((_TOWERS, padded(num_groups) * first_width)),
            down,
            down_groups,
            torch.zeros(_TOWERS, num_groups * first_width).numpy(),
            _room((_TOWERS, num_stretches, first_width)),
            _room((num_stretches, _TOWERS, flat.shape[1] - first_width * num_context)),
            _room((num_blocks, _TOWERS, first_width * num_context)),
            sums,
            losses,
            _room((num_threads(), scratch_size(num_units))),
            _room((num_threads(), narrow), torch.int16).view(np.uint16),
            np.zeros(3, np.int64),
            addresses,
        )
        ctx.save_for_backward(
            of_context[:, : num_groups * num_context].view(context.shape),
            of_impression[:, : num_rows * num_own].view(impression.shape),
            *_whole(gradients, pieces),
        )
        return torch.tensor(scale * losses.sum(), dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upper: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        if float(upper) != 1.0:
            gradients = [upper * gradient for gradient in gradients]
        return None, *gradients[:2], None, None, *gradients[2:]


def _input_gradients(num_inputs: int, context_size: int, impression_size: int) -> tuple[Tensor, Tensor]:
    """Returns [X, context_size] and [X, impression_size] to be overwritten.

    With one input they lie one behind the other, as what was pooled does: nobody has to copy them together.
    The second begins at a multiple of 64 bytes: where the first begins depends on its size alone.
    """
    if num_inputs > 1:
        return torch.empty(num_inputs, context_size), torch.empty(num_inputs, impression_size)
    before = -context_size % _NUMBERS_PER_LINE
    both = torch.empty(1, before + context_size + impression_size)
    return both[:, before : before + context_size], both[:, before + context_size :]


def _pieces(parameters: Sequence[Tensor], num_context: int) -> list[Tensor]:
    """Returns the parameters with the first of each tower split into the context's columns and the others."""
    pieces: list[Tensor] = []
    for number, parameter in enumerate(parameters):
        is_first = number % (len(parameters) // _TOWERS) == 0
        pieces += torch.tensor_split(parameter, [num_context], dim=1) if is_first else [parameter]
    return pieces


def _whole(flat: Tensor, pieces: Sequence[Tensor]) -> list[Tensor]:
    """Returns what lies in `flat` like `pieces` as the parameters that these are of."""
    found = torch.split(flat.view(-1), [piece.numel() for piece in pieces])
    parts = [part.view(piece.shape) for part, piece in zip(found, pieces, strict=True)]
    each = len(parts) // _TOWERS
    whole = []
    for first in range(0, len(parts), each):
        whole += [torch.cat(parts[first : first + 2], dim=1), *parts[first + 2 : first + each]]
    return whole


def stretch_and_chunk(num_rows: int, in_halves: bool) -> tuple[int, int]:
    """Returns how many impressions a thread takes, and how many of these go up and down together."""
    stretch = _multiple(num_rows, CHUNK, _MOST_STRETCHES, _LEAST_STRETCH)
    if in_halves:
        return stretch, CHUNK  # whole ROWS: a product makes that many
    # All alike, so that threads that take as many end together: of 5000 10 x 500, not 9 x 512 and 392.
    stretch = _share(num_rows, stretch)
    return stretch, _share(stretch, CHUNK)


def _share(count: int, most: int) -> int:
    """Returns the size of parts of `count`, at least 1, as alike as can be, none larger than `most`."""
    parts = max(1, -(-count // most))
    return max(1, -(-count // parts))


def _multiple(count: int, unit: int, most: int, least: int = 1) -> int:
    """Returns a multiple of `unit`, at least `least` units, of which at most `most` make `count`."""
    return unit * max(least, -(-count // (unit * most)))


def _room(shape: int | tuple[int, ...], dtype: torch.dtype = torch.float32) -> npt.NDArray[Any]:
    """Returns an array to be overwritten, from torch: its memory begins at a multiple of 64 bytes."""
    return cast(npt.NDArray[Any], torch.empty(shape, dtype=dtype).numpy())
