"""Forward and backward of a linear layer over a chunk, in float32 or bfloat16; called by the fused kernels.

In bfloat16 both matrices of a product are rounded to bfloat16 and sums are in float32, as under torch's
autocast. Operands are laid out for `brgemm`: the right one in VNNI layout, sizes that are summed over padded
to an even number with zeros. M is padded to a multiple of M_MULTIPLE, so that few shapes come up: oneDNN
compiles each the first time. A layer without input features uses `gemm` in bfloat16, too.

Shapes: M impressions or groups of a chunk, I input and O output features of the layer; M' is M made a
multiple of M_MULTIPLE, I' and O' are I and O made even. T towers, Q parameters of a tower, L hidden layers.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from esmm_spark.model.fused.blas import GemmAddresses, brgemm, gemm
from esmm_spark.model.fused.layout import M_MULTIPLE, even, layer_place, padded
from esmm_spark.model.kernels.compilation import inlined_kernel, kernel, parallel_kernel
from esmm_spark.runtime.arrays import Float32s, Ints

# The bits of bfloat16.
BFloat16s = npt.NDArray[np.uint16]


class LinearShape(NamedTuple):
    """The size of a linear layer over a chunk, and where its weights in bfloat16 are.

    Attributes:
        m: M.
        in_features: I.
        out_features: O.
        packed_at: where in the packed weights the layer's begin; of no use in float32.
    """

    m: int
    in_features: int
    out_features: int
    packed_at: int


class LinearGradients(NamedTuple):
    """Gradients of a linear layer's weights and of its input.

    Attributes:
        weights: [O * I], added to.
        x: [M * I], set; in bfloat16 M' * I elements are overwritten.
        accumulate: whether to add to `x` instead.
    """

    weights: Float32s
    x: Float32s
    accumulate: bool


@parallel_kernel
def pack_bfloat16_weights(
    parameters: Float32s, context_features: int, widths: Ints, num_threads: int, out: BFloat16s
) -> None:
    """Rounds the towers' weights to bfloat16, in the layouts that `linear_forward` and `_backward` take.

    Args:
        parameters: [T, Q], of `layer_kernels.Weights`.
        context_features: C.
        widths: [L + 1].
        num_threads: threads to spread it over.
        out: [T * `tower_bfloat16_size`], set: tower by tower: the context's weights, then layer by layer.
    """
    for thread in prange(num_threads):
        _pack_towers(parameters, context_features, widths, out, thread, num_threads)


@kernel
def _pack_towers(
    parameters: Float32s,
    context_features: int,
    widths: Ints,
    out: BFloat16s,
    thread: int,
    num_threads: int,
) -> None:
    """Rounds one thread's share of all weights."""
    num_towers, num_layers = parameters.shape[0], widths.shape[0] - 1
    size = out.shape[0] // num_towers
    for tower in range(num_towers):
        of_tower, packed = parameters[tower], out[tower * size :]
        _pack_layer(of_tower, context_features, widths[1], packed, thread, num_threads)
        for layer in range(num_layers):
            place = layer_place(layer, context_features, widths)
            weights, layer_out = of_tower[place.weights_at :], packed[place.packed_at :]
            _pack_layer(weights, place.in_features, place.out_features, layer_out, thread, num_threads)


@kernel
def _pack_layer(
    weights: Float32s, in_features: int, out_features: int, out: BFloat16s, thread: int, num_threads: int
) -> None:
    """Rounds one thread's share of a layer's weights [O, I], for both passes."""
    pairs = even(in_features) // 2
    begin, end = np.uint64(pairs * thread // num_threads), np.uint64(pairs * (thread + 1) // num_threads)
    units, step = np.uint64(out_features), np.uint64(in_features)
    # A few units at a time, whose cache lines are still in the cache for the next pair.
    for first in range(np.uint64(0), units, np.uint64(16)):
        last = min(first + np.uint64(16), units)
        for pair in range(begin, end):
            for unit in range(first, last):
                at, column = (pair * units + unit) * np.uint64(2), np.uint64(2) * pair
                second = weights[unit * step + column + np.uint64(1)] if column + 1 < step else np.float32(0)
                out[at] = to_bfloat16(weights[unit * step + column])
                out[at + np.uint64(1)] = to_bfloat16(second)
    pairs = even(out_features) // 2
    to = np.uint64(even(in_features) * out_features)
    begin, end = np.uint64(pairs * thread // num_threads), np.uint64(pairs * (thread + 1) // num_threads)
    for pair in range(begin, end):
        first, last = np.uint64(2) * pair, np.uint64(2) * pair + np.uint64(1)
        for column in range(step):
            at = to + (pair * step + column) * np.uint64(2)
            out[at] = to_bfloat16(weights[first * step + column])
            out[at + np.uint64(1)] = to_bfloat16(
                weights[last * step + column] if last < units else np.float32(0)
            )


@kernel
def linear_forward(
    addresses: GemmAddresses,
    shape: LinearShape,
    x: Float32s,
    weights: Float32s,
    packed: BFloat16s | None,
    scratch: BFloat16s,
    out: Float32s,
) -> None:
    """Linear layer forward, without biases: sets `out` to x W^T. All arrays are flat.

    Args:
        addresses: of the products.
        shape: of the layer.
        x: [M * I].
        weights: [O * I].
        packed: what `pack_bfloat16_weights` set, for products in bfloat16; None for float32.
        scratch: of `bfloat16_scratch_size`, overwritten; not used in float32.
        out: [M * O]; in bfloat16 M' * O elements are overwritten.
    """
    m, in_features, out_features, packed_at = shape
    if packed is None or in_features == 0:
        gemm(addresses.sgemm, "NT", (m, out_features, in_features), x, weights, 0, out)
    else:
        _round(x, m, in_features, scratch)
        brgemm_shape = padded(m), out_features, even(in_features)
        brgemm(addresses.brgemm, brgemm_shape, scratch, packed[packed_at:], False, out)


@kernel
def linear_backward(
    addresses: GemmAddresses,
    shape: LinearShape,
    output_gradient: Float32s,
    x: Float32s,
    weights: Float32s,
    packed: BFloat16s | None,
    scratch: BFloat16s,
    gradients: LinearGradients,
) -> None:
    """Linear layer backward: adds the weights' gradient and sets the input's. All arrays are flat.

    Args:
        addresses: of the products.
        shape: of the layer.
        output_gradient: [M * O].
        x: [M * I].
        weights: [O * I].
        packed: as for `linear_forward`.
        scratch: as for `linear_forward`.
        gradients: the result.
    """
    m, in_features, out_features, packed_at = shape
    if packed is None or in_features == 0:
        weight_shape, input_shape = (out_features, in_features, m), (m, in_features, out_features)
        gemm(addresses.sgemm, "TN", weight_shape, output_gradient, x, 1, gradients.weights)
        beta = int(gradients.accumulate)
        gemm(addresses.sgemm, "NN", input_shape, output_gradient, weights, beta, gradients.x)
    else:
        third = scratch.shape[0] // 3
        transposed, packed_x = scratch[third : 2 * third], scratch[2 * third :]
        _round(output_gradient, m, out_features, scratch)
        _transpose(scratch, m, out_features, transposed)
        _pack_vnni(x, m, in_features, packed_x)
        brgemm_shape = out_features, in_features, padded(m)
        brgemm(addresses.brgemm, brgemm_shape, transposed, packed_x, True, gradients.weights)
        brgemm_shape = padded(m), in_features, even(out_features)
        backward_weights = packed[packed_at + even(in_features) * out_features :]
        brgemm(addresses.brgemm, brgemm_shape, scratch, backward_weights, gradients.accumulate, gradients.x)


@inlined_kernel
def to_bfloat16(value: Any) -> Any:
    """Returns the bits of a float32 rounded to bfloat16: to the nearest, ties to even."""
    bits = np.float32(value).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    not_a_number = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.uint16(np.uint32(0x7FC0) if not_a_number else rounded)


@kernel
def _round(x: Float32s, m: int, columns: int, out: BFloat16s) -> None:
    """Rounds a matrix `x` [M, columns] to `out` [M', even columns], padded with zeros."""
    stride = np.uint64(even(columns))
    for i in range(np.uint64(m)):
        fro, to = i * np.uint64(columns), i * stride
        for column in range(np.uint64(columns)):
            out[to + column] = to_bfloat16(x[fro + column])
        if columns % 2:
            out[to + stride - np.uint64(1)] = 0
    out[m * even(columns) : padded(m) * even(columns)] = 0


@kernel
def _transpose(x: BFloat16s, m: int, columns: int, out: BFloat16s) -> None:
    """Sets `out` [columns, M'] to the transpose of `x`, a result of `_round`.

    M_MULTIPLE of M at a time, whose cache lines are still in the cache for the next columns, to one cache
    line of `out`.
    """
    across, stride = np.uint64(padded(m)), np.uint64(even(columns))
    for first in range(np.uint64(0), across, np.uint64(M_MULTIPLE)):
        for column in range(np.uint64(columns)):
            to, fro = column * across + first, first * stride + column
            for i in range(np.uint64(M_MULTIPLE)):
                out[to + i] = x[fro + i * stride]


@kernel
def _pack_vnni(x: Float32s, m: int, columns: int, out: BFloat16s) -> None:
    """Rounds a matrix `x` [M, columns] to VNNI layout, `out` [M' / 2, columns, 2], padded with zeros."""
    whole = m // 2
    for pair in range(np.uint64(whole)):
        first = np.uint64(2) * pair * np.uint64(columns)
        second, to = first + np.uint64(columns), first
        for column in range(np.uint64(columns)):
            out[to + np.uint64(2) * column] = to_bfloat16(x[first + column])
            out[to + np.uint64(2) * column + np.uint64(1)] = to_bfloat16(x[second + column])
    out[2 * whole * columns : padded(m) * columns] = 0
    if m % 2:
        for column in range(columns):
            out[2 * (whole * columns + column)] = to_bfloat16(x[(m - 1) * columns + column])
