"""PReLU of rows to each of which its group's share is added first, and its gradients, on the CPU, compiled.

Shapes: N rows (impressions), G groups, H columns (units), P parts (threads).
"""

import numpy as np
from numba import prange

from esmm_spark.model.kernels import kernel, parallel_kernel
from esmm_spark.model.row_kernels import Floats, Ints


@parallel_kernel
def add_and_activate(
    x: Floats, shares: Floats, groups: Ints, slopes: Floats, out: Floats, parts: int
) -> None:
    """Sets x[i] += shares[groups[i]] and out[i] = prelu(x[i]).

    Args:
        x: [N, H], overwritten.
        shares: [G, H].
        groups: [N], sorted, 0 <= group < G.
        slopes: [H], where x is negative.
        out: [N, H].
        parts: P.
    """
    for part in prange(parts):
        for row in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
            group = groups[row]
            for column in range(x.shape[1]):
                value = x[row, column] + shares[group, column]
                x[row, column] = value
                out[row, column] = value if value > 0 else value * slopes[column]


@parallel_kernel
def activation_gradients(
    gradient: Floats,
    x: Floats,
    groups: Ints,
    slopes: Floats,
    x_gradient: Floats,
    share_gradients: Floats,
    slope_gradients: Floats,
    parts: int,
) -> None:
    """Sets the gradients of what `add_and_activate` was given.

    A group's rows are summed in their order by one part: only `slope_gradients` depend on P.

    Args:
        gradient: [N, H], of `out`.
        x: [N, H], as `add_and_activate` left it.
        groups: [N], sorted.
        slopes: [H].
        x_gradient: [N, H].
        share_gradients: [G, H], 0.
        slope_gradients: [P, H], 0: each part's share.
        parts: P.
    """
    for part in prange(parts):
        of_slopes = slope_gradients[part]
        first, end = _group_start(groups, part, parts), _group_start(groups, part + 1, parts)
        for row in range(first, end):
            of_share = share_gradients[groups[row]]
            for column in range(x.shape[1]):
                value, upper = x[row, column], gradient[row, column]
                lower = upper if value > 0 else upper * slopes[column]
                x_gradient[row, column] = lower
                of_share[column] += lower
                of_slopes[column] += np.float32(0) if value > 0 else upper * value


@kernel
def _group_start(groups: Ints, part: int, parts: int) -> int:
    """Returns the first row of a part: where a group begins."""
    row = groups.shape[0] * part // parts
    while 0 < row < groups.shape[0] and groups[row] == groups[row - 1]:
        row += 1
    return row
