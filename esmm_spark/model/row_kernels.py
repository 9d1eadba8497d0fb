"""The embedding rows' look-up on the CPU and its gradient, compiled.

Each kernel is compiled for one dim, the length of the tuple `columns`: with a constant, loops over columns
become a few vector instructions. (A function made for each dim would be compiled anew in every process:
what it encloses is part of numba's key.) Above MOST_CONSTANT_COLUMNS `columns` is an array, and one compiled
kernel serves all dims: numba hands a tuple to its threads number by number, 100 of them at most, and takes
longer to compile with each. At 96 columns pooling then takes 1.14 times as long, a row's step no longer.

Shapes: L rows of the table, U rows fetched, D dim, T tokens, B bags, P parts (threads), S slots of a hash
table.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from esmm_spark.model.kernels import inlined_kernel, kernel, parallel_kernel, prefetch

Columns = tuple[int, ...] | npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer[Any]]

MOST_CONSTANT_COLUMNS = 64

# Tokens, or rows, between asking for a row's cache line and using it.
AHEAD = 16

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


@kernel
def first_bag(offsets: Ints, part: int, parts: int) -> int:
    """Returns the first bag of a part, of `parts` with about as many tokens and bags together; B for none.

    Contexts' bags are few and long, impressions' many and short.
    """
    num_bags = offsets.shape[0] - 1
    wanted = (offsets[num_bags] + num_bags) * part // parts
    low, high = 0, num_bags
    while low < high:
        middle = (low + high) // 2
        if offsets[middle] + middle < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def columns_of(dim: int) -> Columns:
    """Returns what tells kernels of rows of `dim` numbers: its length, for small ones a part of its type."""
    return (0,) * dim if dim <= MOST_CONSTANT_COLUMNS else np.zeros(dim, np.int8)


@kernel
def ask_for(columns: Columns, table: Floats, row: int, more: int) -> None:
    """Asks for all cache lines of a row of float32 with as many `columns`, and some `more`."""
    size = 4 * (len(columns) + more)
    for start in range(0, size, 64):
        prefetch(table, row, start)
    # A row may begin anywhere in a line, and end in one more than it is long.
    prefetch(table, row, size - 1)


@parallel_kernel
def pool(
    columns: Columns, table: Floats, indices: Ints, weights: Floats, offsets: Ints, out: Floats, parts: int
) -> None:
    """Sets out[b] = sum of weights[t] * table[indices[t]] over the tokens t of bag b.

    Args:
        columns: of D.
        table: [L, at least D], of which the first D columns count.
        indices: [T], 0 <= index < L.
        weights: [T].
        offsets: [B + 1].
        out: [B, D].
        parts: P.
    """
    num_tokens = indices.shape[0]
    for part in prange(parts):
        for bag in range(first_bag(offsets, part, parts), first_bag(offsets, part + 1, parts)):
            for column in range(len(columns)):
                out[bag, column] = 0.0
            for token in range(offsets[bag], offsets[bag + 1]):
                if token + AHEAD < num_tokens:
                    ask_for(columns, table, indices[token + AHEAD], 0)
                weight, row = weights[token], indices[token]
                for column in range(len(columns)):
                    out[bag, column] += weight * table[row, column]


@parallel_kernel
def spread(
    columns: Columns, indices: Ints, weights: Floats, offsets: Ints, gradient: Floats, out: Floats, parts: int
) -> None:
    """Sets out[u] = sum of weights[t] * gradient[bag of t] over the tokens t with indices[t] = u.

    Each part sums a range of rows, in the order of tokens.

    Args:
        columns: of D.
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
                    for column in range(len(columns)):
                        out[row, column] += weight * gradient[bag, column]
