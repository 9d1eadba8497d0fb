"""The steps of rows by the sums of their gradients, for each optimizer (row_optimizer.py has the formulas).

Shapes: L rows of the table, D dim, U rows to step.
"""

from typing import NamedTuple

import numpy as np

from esmm_spark.model.embedding.row_kernels import AHEAD, Columns, prefetch_row
from esmm_spark.model.embedding.row_optimizer import BETA_1, BETA_2, RowOptimizer
from esmm_spark.model.kernels.compilation import kernel
from esmm_spark.runtime.arrays import Float32s, Ints

_ADAGRAD, _ADAM, _SGD = 0, 1, 2
_KINDS = {"rowwise_adagrad": _ADAGRAD, "adam": _ADAM, "sgd": _SGD}


class RowStep(NamedTuple):
    """An optimizer's settings for one step.

    Attributes:
        kind: which optimizer.
        learning_rate: of Adam divided by the correction of its first moment's bias.
        eps: of Adagrad and Adam.
        l2: weight of the L2 penalty on touched rows.
        second_correction: what Adam's second moment is multiplied by.
    """

    kind: np.int64
    learning_rate: np.float32
    eps: np.float32
    l2: np.float32
    second_correction: np.float32


def row_step(optimizer: RowOptimizer, number: int) -> RowStep:
    """Returns the settings of step `number`, counted from 1."""
    rate, correction = optimizer.learning_rate, 1.0
    if optimizer.name == "adam":
        rate, correction = rate / (1 - BETA_1**number), 1 / (1 - BETA_2**number)
    kind = np.int64(_KINDS[optimizer.name])
    return RowStep(kind, *map(np.float32, (rate, optimizer.eps, optimizer.l2, correction)))


@kernel
def step_rows(
    columns: Columns, table: Float32s, rows: Ints, sums: Float32s, count: int, step: RowStep
) -> None:
    """Steps `count` rows.

    Args:
        columns: of D.
        table: [L, D and the optimizer's state], stepped in place.
        rows: [U or more], distinct.
        sums: [U or more, D], the gradient of each; overwritten.
        count: U.
        step: the settings.
    """
    if step.l2 != 0:
        _add_penalty(columns, table, rows, sums, count, step.l2)
    if step.kind == _ADAGRAD:
        _step_adagrad(columns, table, rows, sums, count, step)
    elif step.kind == _ADAM:
        _step_adam(columns, table, rows, sums, count, step)
    else:
        _step_sgd(columns, table, rows, sums, count, step)


@kernel
def _add_penalty(
    columns: Columns, table: Float32s, rows: Ints, sums: Float32s, count: int, l2: np.float32
) -> None:
    """Adds the gradient of the L2 penalty to that of each row."""
    for place in range(np.uint64(count)):
        if place + np.uint64(AHEAD) < np.uint64(count):
            prefetch_row(columns, table, rows[place + np.uint64(AHEAD)], 0)
        row = np.uint64(rows[place])
        for column in range(len(columns)):
            sums[place, column] += l2 * table[row, column]


@kernel
def _step_adagrad(
    columns: Columns, table: Float32s, rows: Ints, sums: Float32s, count: int, step: RowStep
) -> None:
    size = len(columns)
    for place in range(np.uint64(count)):
        if place + np.uint64(AHEAD) < np.uint64(count):
            prefetch_row(columns, table, rows[place + np.uint64(AHEAD)], 1)
        row, squares = np.uint64(rows[place]), np.float32(0)
        for column in range(size):
            squares += sums[place, column] * sums[place, column]
        new_state = table[row, size] + squares / np.float32(size)
        table[row, size] = new_state
        factor = step.learning_rate / (np.sqrt(new_state) + step.eps)
        for column in range(size):
            table[row, column] -= factor * sums[place, column]


@kernel
def _step_adam(
    columns: Columns, table: Float32s, rows: Ints, sums: Float32s, count: int, step: RowStep
) -> None:
    size = len(columns)
    keep_1, keep_2 = np.float32(BETA_1), np.float32(BETA_2)
    take_1, take_2 = np.float32(1 - BETA_1), np.float32(1 - BETA_2)
    for place in range(np.uint64(count)):
        if place + np.uint64(AHEAD) < np.uint64(count):
            prefetch_row(columns, table, rows[place + np.uint64(AHEAD)], 2 * size)
        row = np.uint64(rows[place])
        for column in range(size):
            gradient = sums[place, column]
            first = keep_1 * table[row, size + column] + take_1 * gradient
            second = keep_2 * table[row, 2 * size + column] + take_2 * (gradient * gradient)
            table[row, size + column] = first
            table[row, 2 * size + column] = second
            divisor = np.sqrt(second * step.second_correction) + step.eps
            table[row, column] -= step.learning_rate * first / divisor


@kernel
def _step_sgd(
    columns: Columns, table: Float32s, rows: Ints, sums: Float32s, count: int, step: RowStep
) -> None:
    for place in range(np.uint64(count)):
        if place + np.uint64(AHEAD) < np.uint64(count):
            prefetch_row(columns, table, rows[place + np.uint64(AHEAD)], 0)
        row = np.uint64(rows[place])
        for column in range(len(columns)):
            table[row, column] -= step.learning_rate * sums[place, column]
