"""Embedding look-up on the CPU, pooled by bag, and its gradient.

Each kernel is compiled for one dim, the length of the tuple `columns`: with a constant, loops over columns
become a few vector instructions. (A function made for each dim would be compiled anew in every process:
its closure is part of numba's cache key.) Above MOST_CONSTANT_COLUMNS `columns` is an array, and one compiled
kernel serves all dims: numba hands a tuple to its threads number by number, 100 of them at most, and takes
longer to compile with each. At 96 columns pooling then takes 1.14 times as long, a row's step no longer.

Shapes: L rows of the table, U rows fetched, D dim, T tokens, B bags, P threads.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from esmm_spark.model.kernels.compilation import inlined_kernel, kernel, parallel_kernel
from esmm_spark.runtime.arrays import Float32s, Ints
from esmm_spark.runtime.hash_kernels import fibonacci_hash
from esmm_spark.runtime.prefetching import prefetch_span

Columns = tuple[int, ...] | npt.NDArray[np.int8]

MOST_CONSTANT_COLUMNS = 64

# Tokens, or rows, between the prefetch of a row and its use.
AHEAD = 16


class BagTokens(NamedTuple):
    """The tokens of a batch, bag by bag.

    Attributes:
        rows: [T], the row that each token looks up.
        weights: [T].
        offsets: [B + 1], the tokens of bag b are offsets[b] to offsets[b + 1].
    """

    rows: Ints
    weights: Float32s
    offsets: Ints


@inlined_kernel
def partition_of(row: int, num_partitions: int) -> Any:
    """Returns the partition of a row: a hash of it, at most 2^16 partitions."""
    # Bits of the hash other than the top ones, which choose the slot in a hash table: the rows of a partition
    # would be neighbours there.
    return ((np.int64(fibonacci_hash(row) >> np.uint64(8)) & 0xFFFF) * num_partitions) >> 16


def slots_for(num_tokens: int) -> int:
    """Returns the slots of a hash table for the rows of so many tokens: a power of two, more than those."""
    return 1 << max(10, num_tokens.bit_length())


@kernel
def first_bag(offsets: Ints, block: int, num_blocks: int) -> int:
    """Returns the first bag of a block, of `num_blocks` with about as many tokens and bags; B at the end.

    Contexts' bags are few and long, impressions' many and short.
    """
    num_bags = offsets.shape[0] - 1
    wanted = (offsets[num_bags] + num_bags) * block // num_blocks
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
def prefetch_row(columns: Columns, table: Float32s, row: int, more: int) -> None:
    """Prefetches the cache lines of a float32 row of as many columns as `columns`, and `more`."""
    prefetch_span(table, row, 4 * (len(columns) + more))


@parallel_kernel
def pool(columns: Columns, table: Float32s, tokens: BagTokens, num_threads: int, out: Float32s) -> None:
    """Sum pooling: out[b] = sum of weights[t] * table[rows[t]] over the tokens t of bag b.

    Args:
        columns: of D.
        table: [L, at least D], of which the first D columns are pooled.
        tokens: 0 <= row < L.
        num_threads: P.
        out: [B, D], set.
    """
    rows, weights, offsets = tokens.rows, tokens.weights, tokens.offsets
    num_tokens = rows.shape[0]
    for thread in prange(num_threads):
        for bag in range(
            first_bag(offsets, thread, num_threads), first_bag(offsets, thread + 1, num_threads)
        ):
            for column in range(len(columns)):
                out[bag, column] = 0.0
            for token in range(offsets[bag], offsets[bag + 1]):
                if token + AHEAD < num_tokens:
                    prefetch_row(columns, table, rows[token + AHEAD], 0)
                weight, row = weights[token], rows[token]
                for column in range(len(columns)):
                    out[bag, column] += weight * table[row, column]


@parallel_kernel
def pool_backward(
    columns: Columns, tokens: BagTokens, gradient: Float32s, num_threads: int, out: Float32s
) -> None:
    """Backward of sum pooling: out[u] = sum of weights[t] * gradient[bag of t] over the tokens t of row u.

    Each thread sums a range of rows, in the order of tokens.

    Args:
        columns: of D.
        tokens: 0 <= row < U.
        gradient: [B, D], of what `pool` set.
        num_threads: P.
        out: [U, D], set.
    """
    rows, weights, offsets = tokens.rows, tokens.weights, tokens.offsets
    num_rows, num_bags = out.shape[0], offsets.shape[0] - 1
    for thread in prange(num_threads):
        first, end = num_rows * thread // num_threads, num_rows * (thread + 1) // num_threads
        out[first:end] = 0.0
        for bag in range(num_bags):
            for token in range(offsets[bag], offsets[bag + 1]):
                row = rows[token]
                if first <= row < end:
                    weight = weights[token]
                    for column in range(len(columns)):
                        out[row, column] += weight * gradient[bag, column]
