"""A step of two perceptrons over grouped impressions, on the CPU, compiled: the loss and all gradients.

The two towers have the same widths. A few hundred impressions at a time go up through all layers of both, get
their losses, and go down again, so that hardly anything that lies between layers leaves the core's cache.
Threads take stretches of impressions as they get to it, so none waits for one that was held up; sums over
impressions are made by stretch, so that the result depends on neither the threads nor their luck. Groups,
whose shares of the first layer are computed once for all their impressions, are taken in blocks the same way.

Shapes: N impressions, G groups, T = 2 towers, X inputs: 1 that both towers read, or 2, each tower's own. C
and K features of a context and an impression, H_1 .. H_L hidden units, S stretches, B blocks, P threads. N'
and G' are N and G made multiples of ROWS of `product_kernels`, as bfloat16 needs.

`parameters`, [T, Q], holds for each tower the first layer's weights of the context [H_1, C], then for each
layer l the weights [H_l, H_(l-1)] (H_0 is K), biases [H_l] and slopes [H_l], and at last the last layer's
weights [H_L] and bias [1]. Memory that could lie elsewhere with other threads or at another time must begin
at a multiple of 64 bytes: where it begins decides how MKL rounds.
"""

import numpy as np
import numpy.typing as npt
from numba import prange

from esmm_spark.model.activation_kernels import add
from esmm_spark.model.blas import Addresses, release, take
from esmm_spark.model.kernels import kernel, parallel_kernel
from esmm_spark.model.layer_kernels import CHUNK, go_down, go_up
from esmm_spark.model.loss_kernels import loss_and_gradients
from esmm_spark.model.product_kernels import Halves
from esmm_spark.model.row_kernels import Floats, Ints
from esmm_spark.model.share_kernels import Sizes, add_to_share, share_down, share_up


def scratch_size(num_units: int) -> int:
    """Returns how many numbers a thread needs for towers of `num_units` hidden units in all their layers."""
    return CHUNK * (5 * num_units + 4)


@parallel_kernel
def train_towers(
    x: Floats,
    context: Floats,
    groups: Ints,
    labels: Floats,
    objective: int,
    scale: float,
    sizes: Sizes,
    widths: Ints,
    parameters: Floats,
    halves: Halves | None,
    shares: Floats,
    x_gradient: Floats,
    context_gradient: Floats,
    share_gradients: Floats,
    edges: Floats,
    sums: Floats,
    context_sums: Floats,
    gradients: Floats,
    losses: npt.NDArray[np.float64],
    scratch: Floats,
    narrow: Halves,
    counters: Ints,
    addresses: Addresses,
) -> None:
    """Sets the loss of each stretch and, of their sum times `scale`, all gradients.

    Args:
        x: [X, N * K].
        context: [X, G * C].
        groups: [N], sorted, 0 <= group < G.
        labels: [2, N], click and conversion, 0 or 1.
        objective: of `loss_kernels`.
        scale: what losses are multiplied by before their gradients are taken.
        sizes: of the above and below.
        widths: [L + 1]: K, H_1, ..., H_L.
        parameters: [T, Q].
        halves: of `narrow_weights` where products are to be made in bfloat16, else None.
        shares: [T, G' * H_1], overwritten.
        x_gradient: [X, N * K]; where products are made in bfloat16 [X, N' * K], of which the first are it.
        context_gradient: [X, G * C], or G' * C likewise.
        share_gradients: [T, G * H_1], 0.
        edges: [T, S, H_1], overwritten: a stretch's sum for its first group if that began before it, else 0.
        sums: [S, T, Q - H_1 * C], overwritten by each stretch's share of `gradients`.
        context_sums: [B, T, H_1 * C], overwritten by each block's.
        gradients: [T, Q], set.
        losses: [S], set.
        scratch: [P, `scratch_size`], overwritten.
        narrow: [P, `half_room` for CHUNK rows], overwritten; of no size in float32.
        counters: [3] int64, 0.
        addresses: of the products.
    """
    parts, width = scratch.shape[0], widths[1]
    for part in prange(parts):
        share_up(context, sizes, widths, parameters, halves, shares, narrow[part], counters[:1], addresses)
    for part in prange(parts):
        _take_stretches(
            x,
            groups,
            labels,
            objective,
            scale,
            sizes,
            widths,
            parameters,
            halves,
            shares,
            x_gradient,
            share_gradients,
            edges,
            sums,
            losses,
            scratch[part],
            narrow[part],
            counters[1:2],
            addresses,
        )
    for number in range(1, sums.shape[0]):
        group = groups[number * sizes.stretch]
        if group == groups[number * sizes.stretch - 1]:
            for tower in range(parameters.shape[0]):
                add(share_gradients[tower], group * width, edges[tower, number], 0, width)
    for part in prange(parts):
        share_down(
            context,
            sizes,
            width,
            parameters,
            halves,
            context_gradient,
            share_gradients,
            context_sums,
            narrow[part],
            counters[2:],
            addresses,
        )
        if halves is not None:
            release(addresses.release)
    for part in prange(parts):
        for tower in range(parameters.shape[0]):
            _add_up(context_sums, tower, gradients[tower, : width * sizes.context], part, parts)
            _add_up(sums, tower, gradients[tower, width * sizes.context :], part, parts)


@kernel
def _take_stretches(
    x: Floats,
    groups: Ints,
    labels: Floats,
    objective: int,
    scale: float,
    sizes: Sizes,
    widths: Ints,
    parameters: Floats,
    halves: Halves | None,
    shares: Floats,
    x_gradient: Floats,
    share_gradients: Floats,
    edges: Floats,
    sums: Floats,
    losses: npt.NDArray[np.float64],
    scratch: Floats,
    narrow: Halves,
    counter: Ints,
    addresses: Addresses,
) -> None:
    """Takes stretches of impressions through the layers and back until none is left."""
    num_rows, num_towers = groups.shape[0], parameters.shape[0]
    room = CHUNK * widths[1:].sum()
    lower, logits, upper = scratch[4 * room : 5 * room], scratch[5 * room :], scratch[5 * room + 2 * CHUNK :]
    while True:
        number = take(counter)
        begin = number * sizes.stretch
        if begin >= num_rows:
            break
        end = min(begin + sizes.stretch, num_rows)
        edges[:, number], sums[number], losses[number] = 0, 0, 0
        cut = groups[begin] if begin > 0 and groups[begin] == groups[begin - 1] else -1
        for first in range(begin, end, sizes.chunk):
            rows = min(first + sizes.chunk, end) - first
            for tower in range(num_towers):
                go_up(
                    first,
                    rows,
                    x[tower % x.shape[0]],
                    shares[tower],
                    groups,
                    sizes.context,
                    widths,
                    parameters[tower],
                    halves,
                    tower * sizes.halves,
                    scratch[2 * tower * room : (2 * tower + 1) * room],
                    scratch[(2 * tower + 1) * room : (2 * tower + 2) * room],
                    logits[tower * CHUNK : (tower + 1) * CHUNK],
                    narrow,
                    addresses,
                )
            for row in range(rows):
                loss, of_ctr, of_cvr = loss_and_gradients(
                    objective,
                    float(logits[row]),
                    float(logits[CHUNK + row]),
                    float(labels[0, first + row]),
                    float(labels[1, first + row]),
                )
                losses[number] += loss
                upper[row], upper[CHUNK + row] = scale * of_ctr, scale * of_cvr
            for tower in range(num_towers):
                go_down(
                    first,
                    rows,
                    tower > 0 and x.shape[0] == 1,
                    upper[tower * CHUNK : (tower + 1) * CHUNK],
                    x[tower % x.shape[0]],
                    sizes.context,
                    widths,
                    parameters[tower],
                    halves,
                    (tower + 1) * sizes.halves,
                    scratch[2 * tower * room : (2 * tower + 1) * room],
                    scratch[(2 * tower + 1) * room : (2 * tower + 2) * room],
                    lower,
                    x_gradient[tower % x.shape[0]],
                    sums[number, tower],
                    narrow,
                    addresses,
                )
                for row in range(rows):
                    add_to_share(
                        groups[first + row],
                        cut,
                        lower,
                        row * widths[1],
                        widths[1],
                        share_gradients[tower],
                        edges[tower, number],
                    )
    if halves is not None:
        release(addresses.release)


@kernel
def _add_up(sums: Floats, tower: int, out: Floats, part: int, parts: int) -> None:
    """Sets a part of `out` to the sums over all stretches or blocks."""
    size = out.shape[0]
    first, count = size * part // parts, size * (part + 1) // parts - size * part // parts
    out[first : first + count] = 0
    for number in range(sums.shape[0]):
        add(out, first, sums[number, tower], first, count)
