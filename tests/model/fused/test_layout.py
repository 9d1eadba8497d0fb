"""Where a tower's layers lie: one behind the other, as a plain loop over their sizes finds them."""

import numpy as np
import pytest

from esmm_spark.model.fused.layout import CHUNK, layer_bfloat16_size, layer_place, tower_bfloat16_size


@pytest.mark.parametrize("widths", [[14, 6], [0, 3], [5, 11, 7], [9, 4, 9, 3]])
@pytest.mark.parametrize("context_features", [0, 1, 21])
def test_layers_lie_one_behind_the_other(context_features: int, widths: list[int]) -> None:
    given = np.array(widths, dtype=np.int64)
    parameters, units = context_features * widths[1], 0
    packed = layer_bfloat16_size(context_features, widths[1])
    for layer, (in_features, out_features) in enumerate(zip(widths, [*widths[1:], 1], strict=True)):
        biases = parameters + in_features * out_features
        slopes = biases + out_features
        expected = (in_features, out_features, parameters, biases, slopes, packed, units)
        assert tuple(layer_place(layer, context_features, given)) == expected
        parameters, units = slopes + out_features, units + CHUNK * out_features
        if layer + 1 < len(widths):
            packed += layer_bfloat16_size(in_features, out_features)
    assert packed == tower_bfloat16_size(context_features, given)
