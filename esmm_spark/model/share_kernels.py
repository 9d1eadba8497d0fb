"""The groups' shares of the towers' first layers, up and down, compiled into the kernel that trains.

Shapes are those of `tower_kernels`.
"""

from typing import NamedTuple

from esmm_spark.model.activation_kernels import add
from esmm_spark.model.blas import Addresses, take
from esmm_spark.model.kernels import kernel
from esmm_spark.model.layer_kernels import CHUNK
from esmm_spark.model.product_kernels import Halves, down, up
from esmm_spark.model.row_kernels import Floats, Ints


class Sizes(NamedTuple):
    """What `train_towers` is told of the sizes of things.

    Attributes:
        groups: G.
        context: C.
        stretch: impressions of a stretch; in bfloat16 a multiple of ROWS.
        chunk: those of them that are taken up and down together, at most CHUNK; in bfloat16 a multiple too.
        block: groups of a block, a multiple of ROWS.
        halves: of a tower in what `narrow_weights` gives, 0 in float32.
    """

    groups: int
    context: int
    stretch: int
    chunk: int
    block: int
    halves: int


@kernel
def add_to_share(
    group: int, cut: int, lower: Floats, lower_at: int, width: int, share_gradients: Floats, edge: Floats
) -> None:
    """Adds an impression's gradient to its group's, but of the group `cut` to `edge`."""
    if group == cut:
        add(edge, 0, lower, lower_at, width)
    else:
        add(share_gradients, group * width, lower, lower_at, width)


@kernel
def share_up(
    context: Floats,
    sizes: Sizes,
    widths: Ints,
    parameters: Floats,
    halves: Halves | None,
    shares: Floats,
    narrow: Halves,
    counter: Ints,
    addresses: Addresses,
) -> None:
    """Sets the groups' shares of the first layer, biases included, of blocks of them until none is left."""
    width, num_towers = widths[1], parameters.shape[0]
    while True:
        number = take(counter)
        tower, begin = number % num_towers, number // num_towers * sizes.block
        if begin >= sizes.groups:
            break
        end = min(begin + sizes.block, sizes.groups)
        for first in range(begin, end, CHUNK):
            rows = min(first + CHUNK, end) - first
            up(
                addresses,
                (rows, sizes.context, width),
                context[tower % context.shape[0]],
                first * sizes.context,
                parameters[tower],
                0,
                halves,
                tower * sizes.halves,
                narrow,
                shares[tower],
                first * width,
            )
            for group in range(first, first + rows):
                biases_at = width * (sizes.context + widths[0])
                add(shares[tower], group * width, parameters[tower], biases_at, width)


@kernel
def share_down(
    context: Floats,
    sizes: Sizes,
    width: int,
    parameters: Floats,
    halves: Halves | None,
    context_gradient: Floats,
    share_gradients: Floats,
    context_sums: Floats,
    narrow: Halves,
    counter: Ints,
    addresses: Addresses,
) -> None:
    """Takes blocks of groups back through their shares of the first layer until none is left."""
    while True:
        number = take(counter)
        begin = number * sizes.block
        if begin >= sizes.groups:
            break
        end = min(begin + sizes.block, sizes.groups)
        context_sums[number] = 0
        for first in range(begin, end, CHUNK):
            for tower in range(parameters.shape[0]):
                down(
                    addresses,
                    (min(first + CHUNK, end) - first, sizes.context, width),
                    share_gradients[tower],
                    first * width,
                    context[tower % context.shape[0]],
                    first * sizes.context,
                    parameters[tower],
                    0,
                    halves,
                    tower * sizes.halves,
                    narrow,
                    context_sums[number, tower],
                    0,
                    context_gradient[tower % context.shape[0]],
                    first * sizes.context,
                    tower > 0 and context.shape[0] == 1,
                )
