"""Forward and backward of all layers of a tower over a chunk of impressions; called by the fused kernel.

Shapes: n impressions of a chunk, C and K features of a context and an impression, L hidden layers of
H_1 .. H_L units, H their sum, Q parameters of a tower, B elements of its packed weights. Activations
are held layer after layer, [CHUNK * H_1], [CHUNK * H_2], ...
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from esmm_spark.model.fused.activation_kernels import (
    add,
    add_slope_gradients,
    prelu_backward,
    prelu_forward,
    scale,
)
from esmm_spark.model.fused.blas import GemmAddresses, gemm
from esmm_spark.model.fused.layout import layer_place
from esmm_spark.model.fused.product_kernels import (
    BFloat16s,
    LinearGradients,
    LinearShape,
    linear_backward,
    linear_forward,
)
from esmm_spark.model.kernels.compilation import fetch_and_add, kernel
from esmm_spark.runtime.arrays import Float32s, Ints


class TowerPlan(NamedTuple):
    """The sizes of a step of the towers, and how it is cut into blocks and chunks.

    Attributes:
        loss_scale: what losses are multiplied by before their gradients are taken.
        widths: [L + 1] int64: K, H_1, ..., H_L.
        context_features: C.
        num_groups: G.
        impression_block: impressions that a thread takes at a time; in bfloat16 a multiple of M_MULTIPLE.
        chunk: those of them that are taken through the layers together, at most CHUNK; likewise.
        group_block: groups that a thread takes at a time, a multiple of M_MULTIPLE.
        packed_size: of a tower's weights in bfloat16, B; 0 in float32.
    """

    loss_scale: float
    widths: npt.NDArray[np.int64]
    context_features: int
    num_groups: int
    impression_block: int
    chunk: int
    group_block: int
    packed_size: int


class Weights(NamedTuple):
    """The parameters of all towers, [T, Q], or of one, [Q], in the order of `layout`.

    Attributes:
        parameters: in float32.
        packed: [T * B] of `pack_bfloat16_weights`, all towers'; None where products are in float32.
        packed_at: where in `packed` they begin.
    """

    parameters: Float32s
    packed: BFloat16s | None
    packed_at: int


class LayerBuffers(NamedTuple):
    """A thread's activations of a tower and their gradients, overwritten by each chunk.

    Attributes:
        inputs: [CHUNK * H], the inputs of the activations.
        outputs: [CHUNK * H], the outputs of the activations.
        gradients: [CHUNK * H], the gradients of `inputs`; one array serves all towers.
        bfloat16: of `bfloat16_scratch_size` for CHUNK; of no size in float32.
    """

    inputs: Float32s
    outputs: Float32s
    gradients: Float32s
    bfloat16: BFloat16s


@kernel
def take_block(counter: Ints, block: int, count: int, turns: int) -> tuple[int, int, int]:
    """Takes the next block of work from the counter of all threads; returns (number, begin, end).

    `begin` and `end` are equal when none is left.

    Args:
        counter: [1], how many have been taken by all threads.
        block: impressions or groups of a block; the last has fewer.
        count: of all impressions or groups.
        turns: how often each block is taken, e.g. once for each tower; numbers of one block are neighbours.
    """
    number = fetch_and_add(counter)
    begin = min(number // turns * block, count)
    return number, begin, min(begin + block, count)


@kernel
def forward_layers(
    addresses: GemmAddresses,
    plan: TowerPlan,
    weights: Weights,
    impressions: Float32s,
    projections: Float32s,
    group_index: Ints,
    buffers: LayerBuffers,
    logits: Float32s,
) -> None:
    """Forward of all layers.

    Args:
        addresses: of the products.
        plan: the sizes.
        weights: one tower's.
        impressions: begins with the chunk's, [n * K].
        projections: [G * H_1], the first layer's output for the groups' contexts, biases included.
        group_index: [n], the group of each impression.
        buffers: `inputs` and `outputs` are set.
        logits: [n], set.
    """
    num_layers, count = plan.widths.shape[0] - 1, group_index.shape[0]
    parameters, inputs, outputs, source = weights.parameters, buffers.inputs, buffers.outputs, impressions
    for layer in range(num_layers):
        place = layer_place(layer, plan.context_features, plan.widths)
        width = place.out_features
        linear_forward(
            addresses,
            LinearShape(count, place.in_features, width, weights.packed_at + place.packed_at),
            source,
            parameters[place.weights_at :],
            weights.packed,
            buffers.bfloat16,
            inputs[place.units_at :],
        )
        for i in range(count):
            added, added_at = parameters, place.biases_at
            if layer == 0:
                added, added_at = projections, group_index[i] * width
            at = place.units_at + i * width
            add(inputs, at, added, added_at, width)
            prelu_forward(inputs, at, parameters, place.slopes_at, outputs, at, width)
        source = outputs[place.units_at :]
    place = layer_place(num_layers, plan.context_features, plan.widths)
    gemm(
        addresses.sgemm,
        "NN",
        (count, 1, place.in_features),
        source,
        parameters[place.weights_at :],
        0,
        logits,
    )
    for i in range(count):
        logits[i] += parameters[place.biases_at]


@kernel
def backward_layers(
    addresses: GemmAddresses,
    plan: TowerPlan,
    weights: Weights,
    impressions: Float32s,
    logit_gradients: Float32s,
    buffers: LayerBuffers,
    gradients: LinearGradients,
) -> None:
    """Backward of all layers: adds the parameters' gradients, sets the impressions' and `buffers.gradients`.

    Args:
        addresses: of the products.
        plan: the sizes.
        weights: one tower's.
        impressions: begins with the chunk's, [n * K].
        logit_gradients: [n].
        buffers: `inputs` and `outputs` of `forward_layers`; `gradients` is set, the first layer's first.
        gradients: `weights` [Q - H_1 * C] of the parameters but the context's weights, `x` [n * K] of the
            impressions.
    """
    num_layers, count = plan.widths.shape[0] - 1, logit_gradients.shape[0]
    parameters, layer_gradients = weights.parameters, buffers.gradients
    # `gradients.weights` begins behind the context's weights.
    own_gradients, context_size = gradients.weights, plan.widths[1] * plan.context_features
    last = layer_place(num_layers, plan.context_features, plan.widths)
    place = layer_place(num_layers - 1, plan.context_features, plan.widths)
    width, last_outputs = last.in_features, buffers.outputs[place.units_at :]
    last_gradients = own_gradients[last.weights_at - context_size :]
    gemm(addresses.sgemm, "TN", (1, width, count), logit_gradients, last_outputs, 1, last_gradients)
    for i in range(count):
        own_gradients[last.biases_at - context_size] += logit_gradients[i]
        at = place.units_at + i * width
        scale(layer_gradients, at, logit_gradients[i], parameters, last.weights_at, width)
    for layer in range(num_layers - 1, -1, -1):
        place = layer_place(layer, plan.context_features, plan.widths)
        width = place.out_features
        slopes_at, biases_at = place.slopes_at - context_size, place.biases_at - context_size
        for i in range(count):
            at = place.units_at + i * width
            add_slope_gradients(layer_gradients, at, buffers.inputs, at, own_gradients, slopes_at, width)
            prelu_backward(layer_gradients, at, buffers.inputs, at, parameters, place.slopes_at, width)
            add(own_gradients, biases_at, layer_gradients, at, width)
        source, source_gradient = impressions, gradients.x
        if layer > 0:
            source_at = layer_place(layer - 1, plan.context_features, plan.widths).units_at
            source, source_gradient = buffers.outputs[source_at:], layer_gradients[source_at:]
        weight_gradients = own_gradients[place.weights_at - context_size :]
        linear_backward(
            addresses,
            LinearShape(count, place.in_features, width, weights.packed_at + place.packed_at),
            layer_gradients[place.units_at :],
            source,
            parameters[place.weights_at :],
            weights.packed,
            buffers.bfloat16,
            LinearGradients(weight_gradients, source_gradient, gradients.accumulate and layer == 0),
        )
