"""Forward and backward of the first layers' context projections; called by the fused kernel.

A first layer over [context, impression] is W_c context + W_x impression + b. Its context projection,
W_c context + b, is computed once per group and read by all impressions of the group.

Shapes are those of `tower_kernels`.
"""

from esmm_spark.model.fused.activation_kernels import add
from esmm_spark.model.fused.blas import GemmAddresses
from esmm_spark.model.fused.layer_kernels import TowerPlan, Weights, take_block
from esmm_spark.model.fused.layout import CHUNK, layer_place
from esmm_spark.model.fused.product_kernels import (
    BFloat16s,
    LinearGradients,
    LinearShape,
    linear_backward,
    linear_forward,
)
from esmm_spark.model.kernels.compilation import kernel
from esmm_spark.runtime.arrays import Float32s, Ints


@kernel
def add_projection_gradients(
    group_index: Ints, cut_group: int, gradients: Float32s, out: Float32s, boundary_sum: Float32s
) -> None:
    """Adds the impressions' gradients to those of their groups' projections.

    Args:
        group_index: [n], the group of each impression.
        cut_group: the group that began in an earlier block, which may be another thread's, or -1.
        gradients: begins with the impressions' [n * H_1].
        out: [G * H_1], added to.
        boundary_sum: [H_1], added to instead for the group `cut_group`.
    """
    width = boundary_sum.shape[0]
    for i in range(group_index.shape[0]):
        group = group_index[i]
        if group == cut_group:
            add(boundary_sum, 0, gradients, i * width, width)
        else:
            add(out, group * width, gradients, i * width, width)


@kernel
def forward_projections(
    addresses: GemmAddresses,
    plan: TowerPlan,
    weights: Weights,
    contexts: Float32s,
    scratch: BFloat16s,
    counter: Ints,
    projections: Float32s,
) -> None:
    """Forward: takes blocks of groups of one tower each until none is left.

    Args:
        addresses: of the products.
        plan: the sizes.
        weights: [T, ...].
        contexts: [X, G * C].
        scratch: of this thread, for products in bfloat16.
        counter: [1], of the blocks taken by all threads.
        projections: [T, G' * H_1], set.
    """
    width, num_towers = plan.widths[1], weights.parameters.shape[0]
    biases_at = layer_place(0, plan.context_features, plan.widths).biases_at
    while True:
        number, begin, end = take_block(counter, plan.group_block, plan.num_groups, num_towers)
        if begin == end:
            break
        tower = number % num_towers
        for first in range(begin, end, CHUNK):
            count = min(first + CHUNK, end) - first
            linear_forward(
                addresses,
                LinearShape(count, plan.context_features, width, tower * plan.packed_size),
                contexts[tower % contexts.shape[0], first * plan.context_features :],
                weights.parameters[tower],
                weights.packed,
                scratch,
                projections[tower, first * width :],
            )
            for group in range(first, first + count):
                add(projections[tower], group * width, weights.parameters[tower], biases_at, width)


@kernel
def backward_projections(
    addresses: GemmAddresses,
    plan: TowerPlan,
    weights: Weights,
    contexts: Float32s,
    projection_gradients: Float32s,
    scratch: BFloat16s,
    counter: Ints,
    gradients: tuple[Float32s, Float32s],
) -> None:
    """Backward: takes blocks of groups until none is left.

    Args:
        addresses: of the products.
        plan: the sizes.
        weights: [T, ...].
        contexts: [X, G * C].
        projection_gradients: [T, G * H_1].
        scratch: of this thread, for products in bfloat16.
        counter: [1], of the blocks taken by all threads.
        gradients: each block's partial sums of the weights' [B, T, H_1 * C], and the contexts' [X, G * C];
            both set.
    """
    width = plan.widths[1]
    weight_sums, context_gradients = gradients
    while True:
        number, begin, end = take_block(counter, plan.group_block, plan.num_groups, 1)
        if begin == end:
            break
        weight_sums[number] = 0
        for first in range(begin, end, CHUNK):
            count = min(first + CHUNK, end) - first
            for tower in range(weights.parameters.shape[0]):
                source = tower % contexts.shape[0]
                linear_backward(
                    addresses,
                    LinearShape(count, plan.context_features, width, tower * plan.packed_size),
                    projection_gradients[tower, first * width :],
                    contexts[source, first * plan.context_features :],
                    weights.parameters[tower],
                    weights.packed,
                    scratch,
                    LinearGradients(
                        weight_sums[number, tower],
                        context_gradients[source, first * plan.context_features :],
                        tower > 0 and contexts.shape[0] == 1,
                    ),
                )
