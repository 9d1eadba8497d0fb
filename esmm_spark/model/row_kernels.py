"""The embedding rows' look-up and optimizer step on the CPU, compiled.

Each kernel is made for one dim: with a constant, loops over columns become a few vector instructions.

Shapes: L rows of the table, U rows fetched, D dim, T tokens, B bags, P parts (threads), S slots of a hash
table.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from esmm_spark.model.kernels import inlined_kernel, kernel, parallel_kernel, prefetch

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer[Any]]

# Tokens, or rows, between asking for a row's cache line and using it.
_AHEAD = 16

# 2^64 over the golden ratio: the top bits of a product with it are spread evenly (Knuth, TAOCP 3, 6.4).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@inlined_kernel
def part_of(row: int, parts: int) -> Any:
    """Returns the part, of `parts`, that owns a row."""
    # Bits that `slot_of` doesn't use: a part's rows would lie in a part of its hash table.
    return ((np.int64(np.uint64(row) * _GOLDEN >> np.uint64(8)) & 0xFFFF) * parts) >> 16


@kernel
def slot_bits(size: int) -> int:
    """Returns log2 of a power of two."""
    bits = 0
    while size >> bits > 1:
        bits += 1
    return bits


@kernel
def slot_of(keys: Ints, row: int, bits: int) -> int:
    """Returns the slot that holds a row, or the free one (-1) where it belongs.

    `keys` is a hash table of 2^bits slots, one of them free.
    """
    slot = np.int64(np.uint64(row) * _GOLDEN >> np.uint64(64 - bits))
    while keys[slot] != row and keys[slot] != -1:
        slot = (slot + 1) & (keys.shape[0] - 1)
    return int(slot)


def slots_for(num_tokens: int) -> int:
    """Returns the slots of a hash table for the rows of so many tokens: a power of two, more than those."""
    return 1 << max(10, num_tokens.bit_length())


@functools.cache
def pool_kernel(dim: int) -> Callable[..., None]:
    """Returns `pool` for `dim` columns."""

    def pool(table: Floats, indices: Ints, weights: Floats, offsets: Ints, out: Floats, parts: int) -> None:
        """Sets out[b] = sum of weights[t] * table[indices[t]] over the tokens t of bag b.

        Args:
            table: [L, D].
            indices: [T], 0 <= index < L.
            weights: [T].
            offsets: [B + 1].
            out: [B, D].
            parts: P.
        """
        num_bags, num_tokens = offsets.shape[0] - 1, indices.shape[0]
        for part in prange(parts):
            for bag in range(num_bags * part // parts, num_bags * (part + 1) // parts):
                for column in range(dim):
                    out[bag, column] = 0.0
                for token in range(offsets[bag], offsets[bag + 1]):
                    if token + _AHEAD < num_tokens:
                        prefetch(table, indices[token + _AHEAD])
                    weight, row = weights[token], indices[token]
                    for column in range(dim):
                        out[bag, column] += weight * table[row, column]

    return parallel_kernel(pool)


@functools.cache
def spread_kernel(dim: int) -> Callable[..., None]:
    """Returns `spread` for `dim` columns."""

    def spread(
        indices: Ints, weights: Floats, offsets: Ints, gradient: Floats, out: Floats, parts: int
    ) -> None:
        """Sets out[u] = sum of weights[t] * gradient[bag of t] over the tokens t with indices[t] = u.

        Each part sums a range of rows, in the order of tokens.

        Args:
            indices: [T], 0 <= index < U.
            weights: [T].
            offsets: [B + 1].
            gradient: [B, D], of what `pool` gave.
            out: [U, D].
            parts: P.
        """
        num_rows, num_bags = out.shape[0], offsets.shape[0] - 1
        for part in prange(parts):
            first, end = num_rows * part // parts, num_rows * (part + 1) // parts
            out[first:end] = 0.0
            for bag in range(num_bags):
                for token in range(offsets[bag], offsets[bag + 1]):
                    row = indices[token]
                    if first <= row < end:
                        weight = weights[token]
                        for column in range(dim):
                            out[row, column] += weight * gradient[bag, column]

    return parallel_kernel(spread)


@functools.cache
def step_kernel(dim: int) -> Callable[..., None]:
    """Returns `step` for `dim` columns."""
    sum_rows, step_rows = _sum_rows(dim), _step_rows(dim)

    def step(
        table: Floats,
        state: Floats,
        indices: Ints,
        weights: Floats,
        offsets: Ints,
        gradient: Floats,
        keys: Ints,
        places: Ints,
        found: Ints,
        sums: Floats,
        learning_rate: float,
        eps: float,
        parts: int,
    ) -> None:
        """Sums the gradient of each distinct row and takes its step of row-wise Adagrad.

        Each part owns the rows that a hash gives it and sums them in the order of tokens: the result doesn't
        depend on the number of parts.

        Args:
            table: [L, D], stepped in place.
            state: [L], stepped in place.
            indices: [T], 0 <= index < L.
            weights: [T].
            offsets: [B + 1].
            gradient: [B, D], of what `pool` gave.
            keys: [P, S] of the indices' type, S a power of two greater than T; overwritten.
            places: [P, S] int32; overwritten.
            found: [P, T] of the indices' type; overwritten.
            sums: [P, T, D]; overwritten.
            learning_rate: float32.
            eps: float32.
            parts: P.
        """
        for part in prange(parts):
            count = sum_rows(
                indices,
                weights,
                offsets,
                gradient,
                keys[part],
                places[part],
                found[part],
                sums[part],
                part,
                parts,
            )
            step_rows(table, state, found[part], sums[part], count, learning_rate, eps)

    return parallel_kernel(step)


def _sum_rows(dim: int) -> Callable[..., int]:
    """Returns the function that sums the gradients of a part's rows and returns how many those are."""

    def sum_rows(
        indices: Ints,
        weights: Floats,
        offsets: Ints,
        gradient: Floats,
        keys: Ints,
        places: Ints,
        found: Ints,
        sums: Floats,
        part: int,
        parts: int,
    ) -> int:
        bits, count = slot_bits(keys.shape[0]), 0
        keys[:] = -1
        for bag in range(offsets.shape[0] - 1):
            for token in range(offsets[bag], offsets[bag + 1]):
                row = indices[token]
                if part_of(row, parts) != part:
                    continue
                weight, slot = weights[token], slot_of(keys, row, bits)
                if keys[slot] == row:
                    place = places[slot]
                    for column in range(dim):
                        sums[place, column] += weight * gradient[bag, column]
                else:
                    keys[slot], places[slot], found[count] = row, count, row
                    for column in range(dim):
                        sums[count, column] = weight * gradient[bag, column]
                    count += 1
        return count

    return kernel(sum_rows)


def _step_rows(dim: int) -> Callable[..., None]:
    """Returns the function that takes the step of `count` rows, given the sums of their gradients."""

    def step_rows(
        table: Floats,
        state: Floats,
        rows: Ints,
        sums: Floats,
        count: int,
        learning_rate: float,
        eps: float,
    ) -> None:
        for place in range(count):
            if place + _AHEAD < count:
                prefetch(table, rows[place + _AHEAD])
                prefetch(state, rows[place + _AHEAD])
            row, squares = rows[place], np.float32(0)
            for column in range(dim):
                squares += sums[place, column] * sums[place, column]
            new_state = state[row] + squares / np.float32(dim)
            state[row] = new_state
            factor = learning_rate / (np.sqrt(new_state) + eps)
            for column in range(dim):
                table[row, column] -= factor * sums[place, column]

    return kernel(step_rows)
