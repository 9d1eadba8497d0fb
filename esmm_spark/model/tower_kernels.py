"""A multilayer perceptron over grouped impressions, forwards and backwards, on the CPU, compiled.

Impressions are taken a few hundred at a time, through all layers, while what lies between the layers is in
the core's cache. Threads take stretches of them as they get to it, so none waits for one that was held up;
sums over impressions are made by stretch, so that the result depends on neither the threads nor their luck.

Shapes: N impressions, G groups, K features of an impression, H_1 .. H_L hidden units, S stretches, P threads.

`parameters`, [Q], holds one after the other, for each layer l, its weights [H_l, H_(l-1)] (H_0 is K), biases
[H_l] and slopes [H_l], and then the last layer's weights [H_L] and bias [1]. The first layer's biases are 0:
the groups' shares hold them.
"""

from numba import prange

from esmm_spark.model.activation_kernels import activate, add, add_slope_gradients, pass_down, scale
from esmm_spark.model.blas import multiply, take
from esmm_spark.model.kernels import kernel, parallel_kernel
from esmm_spark.model.row_kernels import Floats, Ints

# Impressions taken through all layers at a time. 256 of 120 features through 200 and 80 units are 1 MB.
CHUNK = 256


@parallel_kernel
def tower_forward(
    x: Floats,
    shares: Floats,
    groups: Ints,
    widths: Ints,
    parameters: Floats,
    inputs: Floats,
    logits: Floats,
    scratch: Floats,
    counter: Ints,
    stretch: int,
    address: int,
) -> None:
    """Sets `logits`, and `inputs` for `tower_backward`.

    Args:
        x: [N * K].
        shares: [G * H_1], the groups' shares of the first layer, biases included.
        groups: [N], sorted, 0 <= group < G.
        widths: [L + 1]: K, H_1, ..., H_L.
        parameters: [Q].
        inputs: [N * (H_1 + ... + H_L)], what each layer's activation is given, layer after layer.
        logits: [N].
        scratch: [P, CHUNK * (H_1 + ... + H_L)], overwritten.
        counter: [1] int64, 0.
        stretch: impressions of a stretch, a multiple of CHUNK.
        address: of sgemm.
    """
    num_rows = groups.shape[0]
    for part in prange(scratch.shape[0]):
        hidden = scratch[part]
        while True:
            begin = take(counter) * stretch
            if begin >= num_rows:
                break
            for first in range(begin, min(begin + stretch, num_rows), CHUNK):
                end = min(first + CHUNK, num_rows)
                _forward(first, end, x, shares, groups, widths, parameters, inputs, logits, hidden, address)


@kernel
def _forward(
    first: int,
    end: int,
    x: Floats,
    shares: Floats,
    groups: Ints,
    widths: Ints,
    parameters: Floats,
    inputs: Floats,
    logits: Floats,
    hidden: Floats,
    address: int,
) -> None:
    rows, num_layers = end - first, widths.shape[0] - 1
    source, source_at, weights_at, hidden_at, inputs_at = x, first * widths[0], 0, 0, 0
    for layer in range(num_layers):
        before, width = widths[layer], widths[layer + 1]
        biases_at = weights_at + width * before
        into = inputs_at + first * width
        multiply(
            address, "NT", (rows, width, before), source, source_at, parameters, weights_at, 0, inputs, into
        )
        for row in range(rows):
            added, added_at = parameters, biases_at
            if layer == 0:
                added, added_at = shares, groups[first + row] * width
            add(inputs, into + row * width, added, added_at, width)
            activate(
                inputs,
                into + row * width,
                parameters,
                biases_at + width,
                hidden,
                hidden_at + row * width,
                width,
            )
        source, source_at = hidden, hidden_at
        weights_at = biases_at + 2 * width
        hidden_at += CHUNK * width
        inputs_at += groups.shape[0] * width
    width = widths[num_layers]
    multiply(address, "NN", (rows, 1, width), source, source_at, parameters, weights_at, 0, logits, first)
    for row in range(first, end):
        logits[row] += parameters[weights_at + width]


@parallel_kernel
def tower_backward(
    upper: Floats,
    x: Floats,
    groups: Ints,
    widths: Ints,
    parameters: Floats,
    inputs: Floats,
    x_gradient: Floats,
    share_gradients: Floats,
    edges: Floats,
    sums: Floats,
    gradients: Floats,
    scratch: Floats,
    counter: Ints,
    stretch: int,
    address: int,
) -> None:
    """Sets the gradients of what `tower_forward` was given.

    Args:
        upper: [N], of `logits`.
        x: [N * K].
        groups: [N], sorted.
        widths: [L + 1].
        parameters: [Q].
        inputs: of `tower_forward`.
        x_gradient: [N * K].
        share_gradients: [G * H_1], 0.
        edges: [S, H_1], a stretch's sum for its first group if that began before it, else 0.
        sums: [S, Q], each stretch's share of `gradients`.
        gradients: [Q].
        scratch: [P, 2 * CHUNK * (H_1 + ... + H_L)], overwritten.
        counter: [1] int64, 0.
        stretch: impressions of a stretch.
        address: of sgemm.
    """
    num_rows, width = groups.shape[0], widths[1]
    for part in prange(scratch.shape[0]):
        room = scratch[part].shape[0] // 2
        hidden, lower = scratch[part, :room], scratch[part, room:]
        while True:
            number = take(counter)
            begin = number * stretch
            if begin >= num_rows:
                break
            end = min(begin + stretch, num_rows)
            edges[number], sums[number] = 0, 0
            cut = groups[begin] if begin > 0 and groups[begin] == groups[begin - 1] else -1
            for first in range(begin, end, CHUNK):
                last = min(first + CHUNK, end)
                _backward(
                    first,
                    last,
                    upper,
                    x,
                    widths,
                    parameters,
                    inputs,
                    x_gradient,
                    sums[number],
                    hidden,
                    lower,
                    num_rows,
                    address,
                )
                _add_shares(first, last, groups, cut, lower, width, share_gradients, edges[number])
    parts, size = scratch.shape[0], gradients.shape[0]
    for part in prange(parts):
        first, count = size * part // parts, size * (part + 1) // parts - size * part // parts
        gradients[first : first + count] = 0
        for number in range(sums.shape[0]):
            add(gradients, first, sums[number], first, count)
    for number in range(1, edges.shape[0]):
        group = groups[number * stretch]
        if group == groups[number * stretch - 1]:
            add(share_gradients, group * width, edges[number], 0, width)


@kernel
def _add_shares(
    first: int,
    end: int,
    groups: Ints,
    cut: int,
    lower: Floats,
    width: int,
    share_gradients: Floats,
    edge: Floats,
) -> None:
    """Adds each impression's gradient to its group's, but of the group `cut` to `edge`."""
    for row in range(first, end):
        if groups[row] == cut:
            add(edge, 0, lower, (row - first) * width, width)
        else:
            add(share_gradients, groups[row] * width, lower, (row - first) * width, width)


@kernel
def _backward(
    first: int,
    end: int,
    upper: Floats,
    x: Floats,
    widths: Ints,
    parameters: Floats,
    inputs: Floats,
    x_gradient: Floats,
    gradient: Floats,
    hidden: Floats,
    lower: Floats,
    num_rows: int,
    address: int,
) -> None:
    """Adds the chunk's share to `gradient`; leaves the gradients of the first layer's inputs in `lower`."""
    rows, num_layers = end - first, widths.shape[0] - 1
    weights_at, hidden_at, inputs_at = 0, 0, 0
    for layer in range(num_layers):
        before, width = widths[layer], widths[layer + 1]
        slopes_at = weights_at + width * before + width
        for row in range(rows):
            from_at = inputs_at + (first + row) * width
            activate(inputs, from_at, parameters, slopes_at, hidden, hidden_at + row * width, width)
        weights_at = slopes_at + width
        hidden_at += CHUNK * width
        inputs_at += num_rows * width
    width = widths[num_layers]
    hidden_at -= CHUNK * width
    multiply(address, "TN", (1, width, rows), upper, first, hidden, hidden_at, 1, gradient, weights_at)
    for row in range(rows):
        gradient[weights_at + width] += upper[first + row]
        scale(lower, hidden_at + row * width, upper[first + row], parameters, weights_at, width)
    for layer in range(num_layers - 1, -1, -1):
        before, width = widths[layer], widths[layer + 1]
        slopes_at, biases_at = weights_at - width, weights_at - 2 * width
        weights_at = biases_at - width * before
        inputs_at -= num_rows * width
        for row in range(rows):
            from_at, lower_at = inputs_at + (first + row) * width, hidden_at + row * width
            add_slope_gradients(lower, lower_at, inputs, from_at, gradient, slopes_at, width)
            pass_down(lower, lower_at, inputs, from_at, parameters, slopes_at, width)
            if layer > 0:
                add(gradient, biases_at, lower, lower_at, width)
        source, source_at = x, first * before
        out, out_at = x_gradient, first * before
        lower_at = hidden_at
        if layer > 0:
            hidden_at -= CHUNK * before
            source, source_at = hidden, hidden_at
            out, out_at = lower, hidden_at
        multiply(
            address, "TN", (width, before, rows), lower, lower_at, source, source_at, 1, gradient, weights_at
        )
        multiply(
            address, "NN", (rows, before, width), lower, lower_at, parameters, weights_at, 0, out, out_at
        )
