"""The three products of a layer over a few impressions, in float32 or in bfloat16, compiled into towers.

In bfloat16 a product is given both its matrices rounded to bfloat16 and sums up in float32, as under torch's
autocast. What is rounded is laid out for `multiply_halves`: rows in pairs, sizes that are summed over made
even with zeros. Rows are made a multiple of ROWS, so that few shapes are asked for: each is compiled when it
first is. Where there is no feature at all, `multiply` does in bfloat16, too.

Shapes: R rows, I inputs and O outputs of a layer; R' is R made a multiple of ROWS, I' and O' are I and O made
even.
"""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange
from numba.extending import register_jitable

from esmm_spark.model.blas import Addresses, multiply, multiply_halves
from esmm_spark.model.kernels import inlined_kernel, kernel, parallel_kernel
from esmm_spark.model.row_kernels import Floats, Ints

ROWS = 32

Halves = npt.NDArray[np.uint16]


def tower_halves(context: int, widths: npt.NDArray[np.int64]) -> int:
    """Returns how many numbers of bfloat16 hold a tower's weights, those of `context` features included."""
    own: int = sum(num_halves(int(i), int(o)) for i, o in itertools.pairwise(widths))
    own += num_halves(context, int(widths[1]))
    return own


def half_room(context: int, widths: npt.NDArray[np.int64], rows: int) -> int:
    """Returns how many numbers of bfloat16 a thread needs for `rows` rows, a multiple of ROWS."""
    room: int = 3 * rows * even(max(context, *map(int, widths)))
    return room


@register_jitable  # type: ignore[untyped-decorator]
def even(size: int) -> int:
    """Returns `size`, made even."""
    return size + (size & 1)


@register_jitable  # type: ignore[untyped-decorator]
def padded(rows: int) -> int:
    """Returns `rows`, made a multiple of ROWS."""
    return (rows + ROWS - 1) // ROWS * ROWS


@register_jitable  # type: ignore[untyped-decorator]
def num_halves(before: int, width: int) -> int:
    """Returns how many numbers hold a layer's weights: [I'/2, O, 2] to go up, [O'/2, I, 2] to go down."""
    size: int = even(before) * width + even(width) * before
    return size


@parallel_kernel
def narrow_weights(parameters: Floats, context: int, widths: Ints, parts: int, halves: Halves) -> None:
    """Rounds the weights of towers.

    Args:
        parameters: [T, Q], of `train_towers`.
        context: C.
        widths: [L + 1].
        parts: threads to spread it over.
        halves: [T * `tower_halves`], set: tower by tower the weights of the context and of the layers.
    """
    num_towers = parameters.shape[0]
    for part in prange(parts):
        halves_at = 0
        for tower in range(num_towers):
            _narrow_layer(parameters[tower], 0, context, widths[1], halves, halves_at, part, parts)
            weights_at = widths[1] * context
            halves_at += num_halves(context, widths[1])
            for layer in range(widths.shape[0] - 1):
                before, width = widths[layer], widths[layer + 1]
                _narrow_layer(parameters[tower], weights_at, before, width, halves, halves_at, part, parts)
                weights_at += width * before + 2 * width
                halves_at += num_halves(before, width)


@kernel
def _narrow_layer(
    weights: Floats,
    weights_at: int,
    before: int,
    width: int,
    halves: Halves,
    up_at: int,
    part: int,
    parts: int,
) -> None:
    """Rounds one of `parts` parts of a layer's weights [O, I], both ways."""
    pairs = even(before) // 2
    begin, end = np.uint64(pairs * part // parts), np.uint64(pairs * (part + 1) // parts)
    fro, to, units, step = np.uint64(weights_at), np.uint64(up_at), np.uint64(width), np.uint64(before)
    # Some units at a time, whose cache lines are at hand for the next pair.
    for first in range(np.uint64(0), units, np.uint64(16)):
        last = min(first + np.uint64(16), units)
        for pair in range(begin, end):
            for unit in range(first, last):
                at, row = to + (pair * units + unit) * np.uint64(2), np.uint64(2) * pair
                second = weights[fro + unit * step + row + np.uint64(1)] if row + 1 < step else np.float32(0)
                halves[at] = half(weights[fro + unit * step + row])
                halves[at + np.uint64(1)] = half(second)
    pairs = even(width) // 2
    to = np.uint64(up_at + even(before) * width)
    for pair in range(np.uint64(pairs * part // parts), np.uint64(pairs * (part + 1) // parts)):
        first, last = np.uint64(2) * pair, np.uint64(2) * pair + np.uint64(1)
        for row in range(step):
            at = to + (pair * step + row) * np.uint64(2)
            halves[at] = half(weights[fro + first * step + row])
            halves[at + np.uint64(1)] = half(
                weights[fro + last * step + row] if last < units else np.float32(0)
            )


@kernel
def up(
    addresses: Addresses,
    shape: tuple[int, int, int],
    x: Floats,
    x_at: int,
    weights: Floats,
    weights_at: int,
    halves: Halves | None,
    halves_at: int,
    room: Halves,
    out: Floats,
    out_at: int,
) -> None:
    """Sets `out` [R, O] to `x` [R, I] times the transposed weights [O, I].

    Args:
        addresses: as for `train_towers`.
        shape: R, I, O.
        x: flat, from `x_at`.
        x_at: where it begins.
        weights: flat, from `weights_at`.
        weights_at: where they begin.
        halves: None in float32, else of `narrow_weights`.
        halves_at: where the layer's weights begin in it.
        room: of `half_room`, overwritten.
        out: flat, from `out_at`; in bfloat16 R' rows of it are overwritten.
        out_at: where it begins.
    """
    rows, before, width = shape
    if halves is None or before == 0:
        multiply(addresses.sgemm, "NT", (rows, width, before), x, x_at, weights, weights_at, 0, out, out_at)
    else:
        _narrow(x, x_at, rows, before, room)
        sizes = padded(rows), width, even(before)
        multiply_halves(addresses.brgemm, sizes, room, 0, halves, halves_at, False, out, out_at)


@kernel
def down(
    addresses: Addresses,
    shape: tuple[int, int, int],
    upper: Floats,
    upper_at: int,
    x: Floats,
    x_at: int,
    weights: Floats,
    weights_at: int,
    halves: Halves | None,
    halves_at: int,
    room: Halves,
    gradient: Floats,
    gradient_at: int,
    out: Floats,
    out_at: int,
    adds: bool,
) -> None:
    """Adds `upper` [R, O], transposed, times `x` to `gradient`; sets `out` [R, I] to `upper` by the weights.

    Args:
        addresses: as for `train_towers`.
        shape: R, I, O.
        upper: flat, from `upper_at`.
        upper_at: where it begins.
        x: flat, from `x_at`.
        x_at: where it begins.
        weights: flat, from `weights_at`.
        weights_at: where they begin.
        halves: as for `up`.
        halves_at: where the layer's weights begin in it.
        room: as for `up`.
        gradient: flat, of the weights, from `gradient_at`.
        gradient_at: where it begins.
        out: flat, from `out_at`; in bfloat16 R' rows of it are overwritten.
        out_at: where it begins.
        adds: whether to add to `out` instead of setting it.
    """
    rows, before, width = shape
    if halves is None or before == 0:
        multiply(
            addresses.sgemm, "TN", (width, before, rows), upper, upper_at, x, x_at, 1, gradient, gradient_at
        )
        multiply(
            addresses.sgemm,
            "NN",
            (rows, before, width),
            upper,
            upper_at,
            weights,
            weights_at,
            int(adds),
            out,
            out_at,
        )
    else:
        third = room.shape[0] // 3
        turned, paired = room[third : 2 * third], room[2 * third :]
        _narrow(upper, upper_at, rows, width, room)
        _turn(room, rows, width, turned)
        _pair(x, x_at, rows, before, paired)
        sizes = width, before, padded(rows)
        multiply_halves(addresses.brgemm, sizes, turned, 0, paired, 0, True, gradient, gradient_at)
        sizes = padded(rows), before, even(width)
        down_at = halves_at + even(before) * width
        multiply_halves(addresses.brgemm, sizes, room, 0, halves, down_at, adds, out, out_at)


@inlined_kernel
def half(value: Any) -> Any:
    """Returns the bits of a number of float32 rounded to bfloat16: to the nearest, ties to the even one."""
    bits = np.float32(value).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    not_a_number = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.uint16(np.uint32(0x7FC0) if not_a_number else rounded)


@kernel
def _narrow(x: Floats, x_at: int, rows: int, columns: int, out: Halves) -> None:
    """Rounds `x` [rows, columns] to `out` [R', even columns]."""
    across = np.uint64(even(columns))
    for row in range(np.uint64(rows)):
        fro, to = np.uint64(x_at) + row * np.uint64(columns), row * across
        for column in range(np.uint64(columns)):
            out[to + column] = half(x[fro + column])
        if columns % 2:
            out[to + across - np.uint64(1)] = 0
    out[rows * even(columns) : padded(rows) * even(columns)] = 0


@kernel
def _turn(x: Halves, rows: int, columns: int, out: Halves) -> None:
    """Sets `out` [columns, R'] to `x`, what `_narrow` gives, transposed.

    ROWS rows at a time, whose cache lines are at hand for the next columns, to one cache line of `out`.
    """
    across, step = np.uint64(padded(rows)), np.uint64(even(columns))
    for first in range(np.uint64(0), across, np.uint64(ROWS)):
        for column in range(np.uint64(columns)):
            to, fro = column * across + first, first * step + column
            for row in range(np.uint64(ROWS)):
                out[to + row] = x[fro + row * step]


@kernel
def _pair(x: Floats, x_at: int, rows: int, columns: int, out: Halves) -> None:
    """Rounds `x` [rows, columns] to `out` [R' / 2, columns, 2]."""
    whole = rows // 2
    for pair in range(np.uint64(whole)):
        first = np.uint64(x_at) + np.uint64(2) * pair * np.uint64(columns)
        second, to = first + np.uint64(columns), np.uint64(2) * pair * np.uint64(columns)
        for column in range(np.uint64(columns)):
            out[to + np.uint64(2) * column] = half(x[first + column])
            out[to + np.uint64(2) * column + np.uint64(1)] = half(x[second + column])
    out[2 * whole * columns : padded(rows) * columns] = 0
    if rows % 2:
        for column in range(columns):
            out[2 * (whole * columns + column)] = half(x[x_at + (rows - 1) * columns + column])
