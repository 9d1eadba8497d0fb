"""The fused training step of towers over grouped impressions, on the CPU: the loss and all gradients.

All towers have the same widths. Each chunk of a few hundred impressions goes through the layers of all
towers forward, through the losses, and through the layers backward, so that activations hardly leave the
core's cache. Threads take blocks of impressions from an atomic counter, so none waits for one that
was held up; each block has its own partial sums over impressions, which are reduced in order, so that the
result depends on neither the number of threads nor their timing. Groups, whose context projections of the
first layer are computed once for all their impressions, are taken in blocks the same way.

Shapes are those of `step_arrays`.

Arrays that are not at the same place with another number of threads or at another time must begin at a
multiple of 64 bytes: alignment decides how MKL rounds.
"""

from numba import prange

from esmm_spark.model.fused.activation_kernels import add
from esmm_spark.model.fused.blas import GemmAddresses, release_brgemm
from esmm_spark.model.fused.layer_kernels import (
    LayerBuffers,
    TowerPlan,
    Weights,
    backward_layers,
    forward_layers,
    take_block,
)
from esmm_spark.model.fused.layout import CHUNK
from esmm_spark.model.fused.product_kernels import LinearGradients
from esmm_spark.model.fused.projection_kernels import (
    add_projection_gradients,
    backward_projections,
    forward_projections,
)
from esmm_spark.model.fused.step_arrays import PartialSums, Scratch, TowerGradients, TowerInputs
from esmm_spark.model.kernels.compilation import fetch_and_add, kernel, parallel_kernel
from esmm_spark.model.objectives.pointwise_kernels import loss_of_chunk
from esmm_spark.model.objectives.spec import LossSpec
from esmm_spark.runtime.arrays import Float32s, Ints


@parallel_kernel
def train_towers(
    addresses: GemmAddresses,
    plan: TowerPlan,
    spec: LossSpec,
    weights: Weights,
    inputs: TowerInputs,
    gradients: TowerGradients,
    partial_sums: PartialSums,
    scratch: Scratch,
) -> None:
    """Sets the loss of each block, summed over its impressions, and all gradients.

    Args:
        addresses: of the products.
        plan: the sizes and the cut into blocks.
        spec: the terms of the loss.
        weights: [T, ...].
        inputs: what is trained on.
        gradients: output.
        partial_sums: overwritten; `losses` and `weights` are output.
        scratch: overwritten.
    """
    num_threads, context_size = scratch.layers.shape[0], plan.widths[1] * plan.context_features
    for thread in prange(num_threads):
        forward_projections(
            addresses,
            plan,
            weights,
            inputs.contexts,
            scratch.bfloat16[thread],
            scratch.counters[0],
            scratch.projections,
        )
    for _ in prange(num_threads):
        _train_blocks(addresses, plan, spec, weights, inputs, gradients, partial_sums, scratch)
    _add_boundary_sums(plan, inputs.group_index, partial_sums.boundary, scratch.projection_gradients)
    for thread in prange(num_threads):
        backward_projections(
            addresses,
            plan,
            weights,
            inputs.contexts,
            scratch.projection_gradients,
            scratch.bfloat16[thread],
            scratch.counters[2],
            (partial_sums.context_weights, gradients.contexts),
        )
        if addresses.brgemm_release != 0:
            release_brgemm(addresses.brgemm_release)
    for thread in prange(num_threads):
        for tower in range(weights.parameters.shape[0]):
            of_tower = gradients.parameters[tower]
            _reduce(partial_sums.context_weights, tower, of_tower[:context_size], thread, num_threads)
            _reduce(partial_sums.parameters, tower, of_tower[context_size:], thread, num_threads)


@kernel
def _train_blocks(
    addresses: GemmAddresses,
    plan: TowerPlan,
    spec: LossSpec,
    weights: Weights,
    inputs: TowerInputs,
    gradients: TowerGradients,
    partial_sums: PartialSums,
    scratch: Scratch,
) -> None:
    """Takes blocks of impressions through the layers, forward and backward, until none is left."""
    group_index, num_towers, num_inputs = inputs.group_index, len(weights.parameters), len(inputs.impressions)
    num_features, num_impressions = plan.widths[0], group_index.shape[0]
    thread = fetch_and_add(scratch.counters[3])
    logits, logit_gradients = _logit_buffers(scratch.layers[thread], num_towers)
    while True:
        block, begin, end = take_block(scratch.counters[1], plan.impression_block, num_impressions, 1)
        if begin == end:
            break
        partial_sums.boundary[:, block], partial_sums.parameters[block] = 0, 0
        partial_sums.losses[block], partial_sums.weights[block] = 0, 0
        is_cut = begin > 0 and group_index[begin] == group_index[begin - 1]
        cut_group = group_index[begin] if is_cut else -1
        for first in range(begin, end, plan.chunk):
            last = min(first + plan.chunk, end)
            chunk_groups = group_index[first:last]
            for tower in range(num_towers):
                forward_layers(
                    addresses,
                    plan,
                    _weights_of(plan, weights, tower),
                    inputs.impressions[tower % num_inputs, first * num_features :],
                    scratch.projections[tower],
                    chunk_groups,
                    _layer_buffers(scratch, thread, tower),
                    logits[tower],
                )
            partial_sums.losses[block] += loss_of_chunk(
                spec,
                logits,
                inputs.labels[:, first:last],
                inputs.carried[:, first:last],
                plan.loss_scale,
                scratch.losses[thread],
                logit_gradients,
                partial_sums.weights[block],
            )
            for tower in range(num_towers):
                buffers = _layer_buffers(scratch, thread, tower)
                backward_layers(
                    addresses,
                    plan,
                    _weights_of(plan, weights, tower),
                    inputs.impressions[tower % num_inputs, first * num_features :],
                    logit_gradients[tower, : chunk_groups.shape[0]],
                    buffers,
                    LinearGradients(
                        partial_sums.parameters[block, tower],
                        gradients.impressions[tower % num_inputs, first * num_features :],
                        tower > 0 and num_inputs == 1,
                    ),
                )
                add_projection_gradients(
                    chunk_groups,
                    cut_group,
                    buffers.gradients,
                    scratch.projection_gradients[tower],
                    partial_sums.boundary[tower, block],
                )
    if addresses.brgemm_release != 0:
        release_brgemm(addresses.brgemm_release)


@kernel
def _weights_of(plan: TowerPlan, weights: Weights, tower: int) -> Weights:
    return Weights(weights.parameters[tower], weights.packed, tower * plan.packed_size)


@kernel
def _layer_buffers(scratch: Scratch, thread: int, tower: int) -> LayerBuffers:
    """Returns views of a thread's `scratch.layers`: inputs and outputs of each tower, then gradients."""
    layers, num_towers = scratch.layers[thread], scratch.projections.shape[0]
    size = (layers.shape[0] - 2 * num_towers * CHUNK) // (2 * num_towers + 1)
    return LayerBuffers(
        layers[2 * tower * size : (2 * tower + 1) * size],
        layers[(2 * tower + 1) * size : (2 * tower + 2) * size],
        layers[2 * num_towers * size : (2 * num_towers + 1) * size],
        scratch.bfloat16[thread],
    )


@kernel
def _logit_buffers(layers: Float32s, num_towers: int) -> tuple[Float32s, Float32s]:
    """Returns the logits and their gradients, [T, CHUNK] each, the end of a thread's `scratch.layers`."""
    both = layers[layers.shape[0] - 2 * num_towers * CHUNK :].reshape(2, num_towers, CHUNK)
    return both[0], both[1]


@kernel
def _add_boundary_sums(
    plan: TowerPlan, group_index: Ints, boundary_sums: Float32s, projection_gradients: Float32s
) -> None:
    """Adds the blocks' sums for groups that began in an earlier block to the groups' gradients."""
    width = plan.widths[1]
    for block in range(1, boundary_sums.shape[1]):
        group = group_index[block * plan.impression_block]
        if group == group_index[block * plan.impression_block - 1]:
            for tower in range(boundary_sums.shape[0]):
                add(projection_gradients[tower], group * width, boundary_sums[tower, block], 0, width)


@kernel
def _reduce(partial_sums: Float32s, tower: int, out: Float32s, thread: int, num_threads: int) -> None:
    """Sets one thread's share of `out` to the sum over all blocks, in their order."""
    first, end = out.shape[0] * thread // num_threads, out.shape[0] * (thread + 1) // num_threads
    out[first:end] = 0
    for block in range(partial_sums.shape[0]):
        add(out, first, partial_sums[block, tower], first, end - first)
