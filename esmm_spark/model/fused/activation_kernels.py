"""Vector sums and PReLU, forward and backward, over ranges of flat arrays; called by the fused kernels.

Offsets are made unsigned: numba takes a negative index to count from the end, and the check for one at each
element would keep the loops from being vectorised.
"""

import numpy as np

from esmm_spark.model.kernels.compilation import kernel
from esmm_spark.runtime.arrays import Float32s


@kernel
def add(out: Float32s, out_at: int, added: Float32s, added_at: int, count: int) -> None:
    """Adds `count` elements of `added` to those of `out`."""
    to, fro = np.uint64(out_at), np.uint64(added_at)
    for column in range(np.uint64(count)):
        out[to + column] += added[fro + column]


@kernel
def scale(out: Float32s, out_at: int, factor: float, x: Float32s, x_at: int, count: int) -> None:
    """Sets `count` elements of `out` to `factor` times those of `x`."""
    to, fro = np.uint64(out_at), np.uint64(x_at)
    for column in range(np.uint64(count)):
        out[to + column] = factor * x[fro + column]


@kernel
def prelu_forward(
    x: Float32s, x_at: int, slopes: Float32s, slopes_at: int, out: Float32s, out_at: int, count: int
) -> None:
    """PReLU forward: sets `count` elements of `out`, each with a slope of its own."""
    to, fro, of = np.uint64(out_at), np.uint64(x_at), np.uint64(slopes_at)
    for column in range(np.uint64(count)):
        value = x[fro + column]
        out[to + column] = value if value > 0 else value * slopes[of + column]


@kernel
def add_slope_gradients(
    gradient: Float32s, gradient_at: int, x: Float32s, x_at: int, out: Float32s, out_at: int, count: int
) -> None:
    """PReLU backward for its slopes: adds their gradients to `count` elements of `out`.

    Args:
        gradient: of PReLU's output.
        gradient_at: where in it the elements begin.
        x: PReLU's input.
        x_at: likewise.
        out: the slopes' gradients.
        out_at: likewise.
        count: the number of elements.
    """
    to, fro, of = np.uint64(out_at), np.uint64(x_at), np.uint64(gradient_at)
    for column in range(np.uint64(count)):
        value = x[fro + column]
        out[to + column] += np.float32(0) if value > 0 else gradient[of + column] * value


@kernel
def prelu_backward(
    gradient: Float32s, gradient_at: int, x: Float32s, x_at: int, slopes: Float32s, slopes_at: int, count: int
) -> None:
    """PReLU backward, in place: `gradient` holds the output's gradient before, the input's afterwards."""
    to, fro, of = np.uint64(gradient_at), np.uint64(x_at), np.uint64(slopes_at)
    for column in range(np.uint64(count)):
        value = gradient[to + column]
        gradient[to + column] = value if x[fro + column] > 0 else value * slopes[of + column]
