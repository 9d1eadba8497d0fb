"""The arrays of a fused training step; `tower_kernels` says what they are for.

Shapes: N impressions, G groups, T towers, one for each head, X inputs: 1 that all towers read, or T, each
tower's own. C and K features of a context and an impression, H_1 .. H_L hidden units, H their sum, Q
parameters of a tower. S blocks of impressions, B blocks of groups, P threads. N' and G' are N and G made
multiples of M_MULTIPLE, as bfloat16 needs.
"""

from typing import NamedTuple

from esmm_spark.model.fused.layout import CHUNK
from esmm_spark.model.fused.product_kernels import BFloat16s
from esmm_spark.runtime.arrays import Float32s, Float64s, Ints


class TowerInputs(NamedTuple):
    """What the towers are trained on.

    Attributes:
        impressions: [X, N * K].
        contexts: [X, G * C].
        group_index: [N] int64, sorted, 0 <= group < G.
        labels: [tasks, N]: 1, 0, or below 0 where unknown.
        carried: [columns, N], what terms read beside.
    """

    impressions: Float32s
    contexts: Float32s
    group_index: Ints
    labels: Float32s
    carried: Float32s


class TowerGradients(NamedTuple):
    """Gradients of the sum of the losses times `plan.loss_scale`, all set.

    Attributes:
        impressions: [X, N * K], in bfloat16 [X, N' * K], of which the first N * K are it.
        contexts: [X, G * C], in bfloat16 [X, G' * C] likewise.
        parameters: [T, Q].
    """

    impressions: Float32s
    contexts: Float32s
    parameters: Float32s


class PartialSums(NamedTuple):
    """Sums of one block each, all overwritten.

    Attributes:
        losses: [S] float64.
        weights: [S, terms, 2] float64, sums of inverse propensities; see `LossSpec.weight_sums`.
        parameters: [S, T, Q - H_1 * C], the gradients of all parameters but the contexts' weights.
        boundary: [T, S, H_1], the gradient of the projection of the block's first group, if that began in an
            earlier block, else 0.
        context_weights: [B, T, H_1 * C], the gradients of the contexts' weights.
    """

    losses: Float64s
    weights: Float64s
    parameters: Float32s
    boundary: Float32s
    context_weights: Float32s


class Scratch(NamedTuple):
    """Arrays that the step works in.

    Attributes:
        projections: [T, G' * H_1], overwritten: the context projections.
        projection_gradients: [T, G * H_1], 0.
        layers: [P, `layer_scratch_size`], overwritten.
        bfloat16: [P, `bfloat16_scratch_size` for CHUNK], overwritten; of no size in float32.
        losses: [P, `loss_scratch_rows`, CHUNK] float64, overwritten.
        counters: [4, 1] int64, 0: blocks taken of groups forward, of impressions, of groups backward; and
            threads that have begun with impressions.
    """

    projections: Float32s
    projection_gradients: Float32s
    layers: Float32s
    bfloat16: BFloat16s
    losses: Float64s
    counters: Ints


def layer_scratch_size(num_units: int, num_towers: int) -> int:
    """Returns the floats that a thread needs for towers of `num_units` hidden units in all their layers."""
    return CHUNK * ((2 * num_towers + 1) * num_units + 2 * num_towers)
