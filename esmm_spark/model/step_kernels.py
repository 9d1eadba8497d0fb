"""The embedding rows' optimizer step on the CPU, compiled.

Tokens are first sorted into parts by a hash of their row, as a radix sort does, so that the rest of the step
takes one part at a time, whose sums and hash table lie in the core's cache. Threads take parts as they get to
it, and each part's tokens keep the batch's order: the result depends on neither.

Shapes: L rows of the table, D dim, T tokens, B bags, C stretches of bags, P parts, M threads, S slots of a
hash table.
"""

import numpy as np
from numba import prange

from esmm_spark.model.blas import take
from esmm_spark.model.kernels import kernel, parallel_kernel
from esmm_spark.model.row_kernels import (
    AHEAD,
    Columns,
    Floats,
    Ints,
    ask_for,
    first_bag,
    part_of,
    slot_bits,
    slot_of,
)


@parallel_kernel
def step(
    columns: Columns,
    table: Floats,
    indices: Ints,
    weights: Floats,
    offsets: Ints,
    gradient: Floats,
    ends: Ints,
    sorted_rows: Ints,
    sorted_weights: Floats,
    sorted_bags: Ints,
    keys: Ints,
    places: Ints,
    found: Ints,
    sums: Floats,
    counter: Ints,
    learning_rate: np.float32,
    eps: np.float32,
) -> None:
    """Sums the gradient of each distinct row and takes its step of row-wise Adagrad.

    Args:
        columns: of D.
        table: [L, more than D], rows and behind each its state, stepped in place.
        indices: [T], 0 <= index < L.
        weights: [T].
        offsets: [B + 1].
        gradient: [B, D], of what `pool` gave.
        ends: [C, P] int64; overwritten.
        sorted_rows: [at least T] of the indices' type; overwritten, and so are the others.
        sorted_weights: [at least T].
        sorted_bags: [at least T] int32.
        keys: [M, S] of the indices' type, S a power of two greater than T.
        places: [M, S] int32.
        found: [M, at least T] of the indices' type.
        sums: [M, at least T, D].
        counter: [1] int64, 0.
        learning_rate: of row-wise Adagrad.
        eps: of row-wise Adagrad.
    """
    stretches, parts = ends.shape
    for stretch in prange(stretches):
        first, end = first_bag(offsets, stretch, stretches), first_bag(offsets, stretch + 1, stretches)
        count_tokens(indices, offsets[first], offsets[end], ends[stretch])
    place = 0
    for part in range(parts):
        for stretch in range(stretches):
            count = ends[stretch, part]
            ends[stretch, part] = place
            place += count
    for stretch in prange(stretches):
        first, end = first_bag(offsets, stretch, stretches), first_bag(offsets, stretch + 1, stretches)
        sort_tokens(
            indices,
            weights,
            offsets,
            first,
            end,
            ends[stretch],
            sorted_rows,
            sorted_weights,
            sorted_bags,
        )
    for thread in prange(keys.shape[0]):
        while True:
            part = take(counter)
            if part >= parts:
                break
            first, end = ends[stretches - 1, part - 1] if part else 0, ends[stretches - 1, part]
            count = _sum_rows(
                columns,
                sorted_rows,
                sorted_weights,
                sorted_bags,
                first,
                end,
                gradient,
                keys[thread],
                places[thread],
                found[thread],
                sums[thread],
            )
            _step_rows(columns, table, found[thread], sums[thread], count, learning_rate, eps)


@kernel
def count_tokens(rows: Ints, first: int, end: int, counts: Ints) -> None:
    """Sets counts [P] to the tokens [first, end) of each part."""
    counts[:] = 0
    for token in range(np.uint64(first), np.uint64(end)):
        counts[np.uint64(part_of(rows[token], counts.shape[0]))] += 1


@kernel
def sort_tokens(
    rows: Ints,
    weights: Floats,
    offsets: Ints,
    first_bag: int,
    end_bag: int,
    next_place: Ints,
    sorted_rows: Ints,
    sorted_weights: Floats,
    sorted_bags: Ints,
) -> None:
    """Puts the tokens of some bags to those of their parts, from `next_place` [P] on, which it moves on."""
    for bag in range(np.uint64(first_bag), np.uint64(end_bag)):
        for token in range(np.uint64(offsets[bag]), np.uint64(offsets[bag + np.uint64(1)])):
            row = rows[token]
            part = np.uint64(part_of(row, next_place.shape[0]))
            place = np.uint64(next_place[part])
            sorted_rows[place], sorted_weights[place], sorted_bags[place] = row, weights[token], bag
            next_place[part] = place + np.uint64(1)


@kernel
def _sum_rows(
    columns: Columns,
    rows: Ints,
    weights: Floats,
    bags: Ints,
    first: int,
    end: int,
    gradient: Floats,
    all_keys: Ints,
    places: Ints,
    found: Ints,
    sums: Floats,
) -> int:
    """Sums the gradients of a part's rows and returns how many those are."""
    # At most all slots: they are more than tokens, so that one stays free.
    bits = min(slot_bits(2 * (end - first)) + 1, slot_bits(all_keys.shape[0]))
    count = np.uint64(0)
    keys = all_keys[: 1 << bits]
    keys[:] = -1
    for token in range(first, end):
        if token + AHEAD < end:
            ask_for(columns, gradient, bags[token + AHEAD], 0)
        row, weight, bag = rows[token], weights[token], np.uint64(bags[token])
        slot = np.uint64(slot_of(keys, row, bits))
        if keys[slot] == -1:
            keys[slot], places[slot], found[count] = row, count, row
            for column in range(len(columns)):
                sums[count, column] = weight * gradient[bag, column]
            count += np.uint64(1)
        else:
            place = np.uint64(places[slot])
            for column in range(len(columns)):
                sums[place, column] += weight * gradient[bag, column]
    return int(count)


@kernel
def _step_rows(
    columns: Columns,
    table: Floats,
    rows: Ints,
    sums: Floats,
    count: int,
    learning_rate: np.float32,
    eps: np.float32,
) -> None:
    """Takes the step of `count` rows, given the sums of their gradients."""
    size = len(columns)
    for place in range(np.uint64(count)):
        if place + np.uint64(AHEAD) < np.uint64(count):
            ask_for(columns, table, rows[place + np.uint64(AHEAD)], 1)
        row, squares = np.uint64(rows[place]), np.float32(0)
        for column in range(size):
            squares += sums[place, column] * sums[place, column]
        new_state = table[row, size] + squares / np.float32(size)
        table[row, size] = new_state
        factor = learning_rate / (np.sqrt(new_state) + eps)
        for column in range(size):
            table[row, column] -= factor * sums[place, column]
