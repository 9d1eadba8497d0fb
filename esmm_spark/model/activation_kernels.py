"""Sums and PReLU over stretches of flat arrays, compiled into the kernels that call them.

Offsets are made unsigned: numba takes a negative index to count from the end, and to look for one at each
number keeps the loops from becoming vector instructions.
"""

import numpy as np

from esmm_spark.model.kernels import kernel
from esmm_spark.model.row_kernels import Floats


@kernel
def add(out: Floats, out_at: int, added: Floats, added_at: int, count: int) -> None:
    """Adds `count` numbers to those of `out`."""
    to, fro = np.uint64(out_at), np.uint64(added_at)
    for column in range(np.uint64(count)):
        out[to + column] += added[fro + column]


@kernel
def scale(out: Floats, out_at: int, factor: float, x: Floats, x_at: int, count: int) -> None:
    """Sets `count` numbers of `out` to `factor` times those of `x`."""
    to, fro = np.uint64(out_at), np.uint64(x_at)
    for column in range(np.uint64(count)):
        out[to + column] = factor * x[fro + column]


@kernel
def activate(
    x: Floats, x_at: int, slopes: Floats, slopes_at: int, out: Floats, out_at: int, count: int
) -> None:
    """Sets `count` numbers of `out` to PReLU of those of `x`."""
    to, fro, of = np.uint64(out_at), np.uint64(x_at), np.uint64(slopes_at)
    for column in range(np.uint64(count)):
        value = x[fro + column]
        out[to + column] = value if value > 0 else value * slopes[of + column]


@kernel
def add_slope_gradients(
    upper: Floats, upper_at: int, x: Floats, x_at: int, out: Floats, out_at: int, count: int
) -> None:
    """Adds to `out` the gradients of `count` slopes, given those of what PReLU gave and was given."""
    to, fro, of = np.uint64(out_at), np.uint64(x_at), np.uint64(upper_at)
    for column in range(np.uint64(count)):
        value = x[fro + column]
        out[to + column] += np.float32(0) if value > 0 else upper[of + column] * value


@kernel
def pass_down(
    upper: Floats, upper_at: int, x: Floats, x_at: int, slopes: Floats, slopes_at: int, count: int
) -> None:
    """Makes of the gradients of what PReLU gave, in place, those of what it was given."""
    to, fro, of = np.uint64(upper_at), np.uint64(x_at), np.uint64(slopes_at)
    for column in range(np.uint64(count)):
        value = upper[to + column]
        upper[to + column] = value if x[fro + column] > 0 else value * slopes[of + column]
