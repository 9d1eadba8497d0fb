"""Offsets of a tower's layers: in its parameters, in their bfloat16 copies, in its activations.

A tower's parameters are the first layer's weights of the context [H_1, C], then for each layer l the weights
[H_l, H_(l-1)], biases [H_l] and PReLU slopes [H_l], and at last the last layer's weights [H_L] and bias [1].

Shapes: C and K features of a context and an impression, L hidden layers of H_1 .. H_L units, H_0 is K. I
input and O output features of a layer, I' and O' are I and O made even.
"""

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from esmm_spark.model.kernels.compilation import kernel
from esmm_spark.runtime.arrays import Ints

# Impressions taken through all layers at a time, a multiple of M_MULTIPLE. Fewer make slower products in
# float32, more leave the core's cache.
CHUNK = 256
# What a product's M is padded to in bfloat16.
M_MULTIPLE = 32


class LayerPlace(NamedTuple):
    """A layer's sizes and offsets.

    Attributes:
        in_features: I.
        out_features: O.
        weights_at: in the tower's parameters, the weights [O, I].
        biases_at: likewise.
        slopes_at: likewise.
        packed_at: in the tower's weights in bfloat16.
        units_at: in `LayerBuffers`, the layer's output; of no use for the context's weights.
    """

    in_features: int
    out_features: int
    weights_at: int
    biases_at: int
    slopes_at: int
    packed_at: int
    units_at: int


@kernel
def layer_place(layer: int, context_features: int, widths: Ints) -> LayerPlace:
    """Returns sizes and offsets of a layer: 0 .. L - 1, or L for the last one, to the logit.

    Args:
        layer: its number.
        context_features: C.
        widths: [L + 1]: K, H_1, ..., H_L.
    """
    weights_at, units_at = widths[1] * context_features, 0
    packed_at = layer_bfloat16_size(context_features, widths[1])
    for before in range(layer):
        in_features, out_features = widths[before], widths[before + 1]
        weights_at += out_features * (in_features + 2)
        packed_at += layer_bfloat16_size(in_features, out_features)
        units_at += CHUNK * out_features
    out_features = widths[layer + 1] if layer + 1 < widths.shape[0] else 1
    biases_at = weights_at + out_features * widths[layer]
    return LayerPlace(
        widths[layer], out_features, weights_at, biases_at, biases_at + out_features, packed_at, units_at
    )


def tower_bfloat16_size(context_features: int, widths: npt.NDArray[np.int64]) -> int:
    """Returns how many elements `pack_bfloat16_weights` makes of a tower, context features included."""
    size: int = sum(layer_bfloat16_size(int(i), int(o)) for i, o in itertools.pairwise(widths))
    size += layer_bfloat16_size(context_features, int(widths[1]))
    return size


def bfloat16_scratch_size(context_features: int, widths: npt.NDArray[np.int64], m: int) -> int:
    """Returns how many elements of bfloat16 a thread needs for chunks of `m`, a multiple of M_MULTIPLE."""
    size: int = 3 * m * even(max(context_features, *map(int, widths)))
    return size


@register_jitable  # type: ignore[untyped-decorator]
def even(size: int) -> int:
    """Returns `size` rounded up to an even number."""
    return size + (size & 1)


@register_jitable  # type: ignore[untyped-decorator]
def padded(m: int) -> int:
    """Returns `m` rounded up to a multiple of M_MULTIPLE."""
    return (m + M_MULTIPLE - 1) // M_MULTIPLE * M_MULTIPLE


@register_jitable  # type: ignore[untyped-decorator]
def layer_bfloat16_size(in_features: int, out_features: int) -> int:
    """Returns the size of a layer's packed weights: [I'/2, O, 2] for forward, [O'/2, I, 2] for backward."""
    size: int = even(in_features) * out_features + even(out_features) * in_features
    return size
