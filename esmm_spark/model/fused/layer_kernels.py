"""Forward and backward of all layers of a tower over a chunk of impressions; called by the fused kernel.

Shapes: n impressions of a chunk, C and K features of a context and an impression, L hidden layers of
H_1 .. H_L units, H their sum, Q parameters of a tower, B elements of its packed weights. What lies between
layers is held layer after layer, [CHUNK * H_1], [CHUNK * H_2], ...
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
from esmm_spark.model.fused.product_kernels import (
    BFloat16s,
    LinearGradients,
    LinearShape,
    layer_bfloat16_size,
    linear_backward,
    linear_forward,
)
from esmm_spark.model.kernels.compilation import Floats, Ints, kernel

# Impressions taken through all layers at a time, a multiple of M_MULTIPLE of `product_kernels`. Fewer make
# slower products in float32, more leave the core's cache.
CHUNK = 256


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
    """The parameters of all towers, [T, Q], or of one, [Q].

    A tower's are the first layer's weights of the context [H_1, C], then for each layer l the weights
    [H_l, H_(l-1)] (H_0 is K), biases [H_l] and PReLU slopes [H_l], and at last the last layer's weights [H_L]
    and bias [1].

    Attributes:
        parameters: in float32.
        packed: [T * B] of `pack_bfloat16_weights`, all towers'; None where products are in float32.
        packed_at: where in `packed` they begin.
    """

    parameters: Floats
    packed: BFloat16s | None
    packed_at: int


class LayerBuffers(NamedTuple):
    """What a thread holds of a tower's layers, overwritten by each chunk.

    Attributes:
        inputs: [CHUNK * H], the inputs of the activations.
        outputs: [CHUNK * H], the outputs of the activations.
        gradients: [CHUNK * H], the gradients of `inputs`; one array serves all towers.
        bfloat16: of `bfloat16_scratch_size` for CHUNK; of no size in float32.
    """

    inputs: Floats
    outputs: Floats
    gradients: Floats
    bfloat16: BFloat16s


@kernel
def forward_layers(
    addresses: GemmAddresses,
    plan: TowerPlan,
    weights: Weights,
    impressions: Floats,
    projections: Floats,
    group_index: Ints,
    buffers: LayerBuffers,
    logits: Floats,
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
    parameters, inputs, outputs = weights.parameters, buffers.inputs, buffers.outputs
    weights_at, layer_at, source = plan.widths[1] * plan.context_features, 0, impressions
    packed_at = weights.packed_at + layer_bfloat16_size(plan.context_features, plan.widths[1])
    for layer in range(num_layers):
        before, width = plan.widths[layer], plan.widths[layer + 1]
        biases_at = weights_at + width * before
        linear_forward(
            addresses,
            LinearShape(count, before, width, packed_at),
            source,
            parameters[weights_at:],
            weights.packed,
            buffers.bfloat16,
            inputs[layer_at:],
        )
        for i in range(count):
            added, added_at = parameters, biases_at
            if layer == 0:
                added, added_at = projections, group_index[i] * width
            at = layer_at + i * width
            add(inputs, at, added, added_at, width)
            prelu_forward(inputs, at, parameters, biases_at + width, outputs, at, width)
        source = outputs[layer_at:]
        weights_at = biases_at + 2 * width
        packed_at += layer_bfloat16_size(before, width)
        layer_at += CHUNK * width
    width = plan.widths[num_layers]
    gemm(addresses.sgemm, "NN", (count, 1, width), source, parameters[weights_at:], 0, logits)
    for i in range(count):
        logits[i] += parameters[weights_at + width]


@kernel
def backward_layers(
    addresses: GemmAddresses,
    plan: TowerPlan,
    weights: Weights,
    impressions: Floats,
    logit_gradients: Floats,
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
    width, context_size = plan.widths[num_layers], plan.widths[1] * plan.context_features
    # The parameters behind the context's weights, as `own_gradients` has them.
    own_weights, own_gradients = weights.parameters[context_size:], gradients.weights
    weights_at, layer_at = own_weights.shape[0] - width - 1, CHUNK * (plan.widths[1:].sum() - width)
    packed_at = weights.packed_at + layer_bfloat16_size(plan.context_features, plan.widths[1])
    for layer in range(num_layers):
        packed_at += layer_bfloat16_size(plan.widths[layer], plan.widths[layer + 1])
    last_outputs = buffers.outputs[layer_at:]
    gemm(
        addresses.sgemm, "TN", (1, width, count), logit_gradients, last_outputs, 1, own_gradients[weights_at:]
    )
    for i in range(count):
        own_gradients[weights_at + width] += logit_gradients[i]
        at = layer_at + i * width
        scale(buffers.gradients, at, logit_gradients[i], own_weights, weights_at, width)
    for layer in range(num_layers - 1, -1, -1):
        before, width = plan.widths[layer], plan.widths[layer + 1]
        slopes_at, biases_at = weights_at - width, weights_at - 2 * width
        weights_at = biases_at - width * before
        packed_at -= layer_bfloat16_size(before, width)
        for i in range(count):
            at = layer_at + i * width
            add_slope_gradients(buffers.gradients, at, buffers.inputs, at, own_gradients, slopes_at, width)
            prelu_backward(buffers.gradients, at, buffers.inputs, at, own_weights, slopes_at, width)
            add(own_gradients, biases_at, buffers.gradients, at, width)
        output_gradient = buffers.gradients[layer_at:]
        source, source_gradient = impressions, gradients.x
        if layer > 0:
            layer_at -= CHUNK * before
            source, source_gradient = buffers.outputs[layer_at:], buffers.gradients[layer_at:]
        linear_backward(
            addresses,
            LinearShape(count, before, width, packed_at),
            output_gradient,
            source,
            own_weights[weights_at:],
            weights.packed,
            buffers.bfloat16,
            LinearGradients(own_gradients[weights_at:], source_gradient, gradients.accumulate and layer == 0),
        )
