"""A few impressions through all layers of a tower, up and down, compiled into the kernel that trains.

Shapes: R impressions of a chunk, N in all, C and K features of a context and an impression, H_1 .. H_L hidden
units. What lies between layers is held layer after layer, each with room for CHUNK impressions.
"""

from esmm_spark.model.activation_kernels import activate, add, add_slope_gradients, pass_down, scale
from esmm_spark.model.blas import Addresses, multiply
from esmm_spark.model.kernels import kernel
from esmm_spark.model.product_kernels import Halves, down, num_halves, up
from esmm_spark.model.row_kernels import Floats, Ints

# Impressions taken through all layers at a time, a multiple of ROWS of `product_kernels`. Fewer make slower
# products in float32, more leave the core's cache.
CHUNK = 256


@kernel
def go_up(
    first: int,
    rows: int,
    x: Floats,
    shares: Floats,
    groups: Ints,
    context_width: int,
    widths: Ints,
    parameters: Floats,
    halves: Halves | None,
    halves_at: int,
    inputs: Floats,
    hidden: Floats,
    logits: Floats,
    narrow: Halves,
    addresses: Addresses,
) -> None:
    """Sets what each layer's activation is given, what it gives, and the logits.

    Args:
        first: the first impression.
        rows: R, at most CHUNK.
        x: [N * K].
        shares: [G * H_1], the groups' shares of the first layer, biases included.
        groups: [N], the group of each impression.
        context_width: C.
        widths: [L + 1]: K, H_1, ..., H_L.
        parameters: [Q], of `tower_kernels`.
        halves: of `narrow_weights` where products are to be made in bfloat16, else None.
        halves_at: where the tower's begin.
        inputs: [CHUNK * (H_1 + ... + H_L)], set: what activations are given.
        hidden: as `inputs`, set: what they give.
        logits: [CHUNK], set.
        narrow: of `half_room`, overwritten.
        addresses: of the products.
    """
    num_layers = widths.shape[0] - 1
    source, source_at, into = x, first * widths[0], 0
    weights_at, halves_at = widths[1] * context_width, halves_at + num_halves(context_width, widths[1])
    for layer in range(num_layers):
        before, width = widths[layer], widths[layer + 1]
        biases_at = weights_at + width * before
        shape = rows, before, width
        up(
            addresses,
            shape,
            source,
            source_at,
            parameters,
            weights_at,
            halves,
            halves_at,
            narrow,
            inputs,
            into,
        )
        for row in range(rows):
            added, added_at = parameters, biases_at
            if layer == 0:
                added, added_at = shares, groups[first + row] * width
            at = into + row * width
            add(inputs, at, added, added_at, width)
            activate(inputs, at, parameters, biases_at + width, hidden, at, width)
        source, source_at = hidden, into
        weights_at = biases_at + 2 * width
        halves_at += num_halves(before, width)
        into += CHUNK * width
    width = widths[num_layers]
    multiply(addresses.sgemm, "NN", (rows, 1, width), source, source_at, parameters, weights_at, 0, logits, 0)
    for row in range(rows):
        logits[row] += parameters[weights_at + width]


@kernel
def go_down(
    first: int,
    rows: int,
    adds: bool,
    upper: Floats,
    x: Floats,
    context_width: int,
    widths: Ints,
    parameters: Floats,
    halves: Halves | None,
    halves_end: int,
    inputs: Floats,
    hidden: Floats,
    lower: Floats,
    x_gradient: Floats,
    gradient: Floats,
    narrow: Halves,
    addresses: Addresses,
) -> None:
    """Adds the chunk's share to `gradient`, and sets the gradients of `x` and of the first layer's inputs.

    Args:
        first: the first impression.
        rows: R.
        adds: whether to add to `x_gradient` instead of setting it.
        upper: [CHUNK], the gradients of the logits.
        x: [N * K].
        context_width: C.
        widths: [L + 1].
        parameters: [Q].
        halves: as for `go_up`.
        halves_end: where the tower's end.
        inputs: of `go_up`.
        hidden: of `go_up`.
        lower: as `inputs`, set: the gradients of `inputs`, the first layer's first.
        x_gradient: [N * K], in bfloat16 [N' * K].
        gradient: [Q - H_1 * C], of the parameters but the context's weights.
        narrow: as for `go_up`.
        addresses: of the products.
    """
    num_layers, own_at = widths.shape[0] - 1, widths[1] * context_width
    width = widths[num_layers]
    weights_at, lower_at, halves_at = parameters.shape[0] - width - 1, CHUNK * widths[1:].sum(), halves_end
    lower_at -= CHUNK * width
    last_at = weights_at - own_at
    multiply(addresses.sgemm, "TN", (1, width, rows), upper, 0, hidden, lower_at, 1, gradient, last_at)
    for row in range(rows):
        gradient[last_at + width] += upper[row]
        scale(lower, lower_at + row * width, upper[row], parameters, weights_at, width)
    for layer in range(num_layers - 1, -1, -1):
        before, width = widths[layer], widths[layer + 1]
        slopes_at, biases_at = weights_at - width, weights_at - 2 * width
        weights_at = biases_at - width * before
        halves_at -= num_halves(before, width)
        for row in range(rows):
            at = lower_at + row * width
            add_slope_gradients(lower, at, inputs, at, gradient, slopes_at - own_at, width)
            pass_down(lower, at, inputs, at, parameters, slopes_at, width)
            add(gradient, biases_at - own_at, lower, at, width)
        source, source_at, upper_at = x, first * before, lower_at
        out, out_at = x_gradient, first * before
        if layer > 0:
            lower_at -= CHUNK * before
            source, source_at = hidden, lower_at
            out, out_at = lower, lower_at
        down(
            addresses,
            (rows, before, width),
            lower,
            upper_at,
            source,
            source_at,
            parameters,
            weights_at,
            halves,
            halves_at,
            narrow,
            gradient,
            weights_at - own_at,
            out,
            out_at,
            adds and layer == 0,
        )
