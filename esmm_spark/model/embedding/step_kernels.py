"""Backward of the embedding look-up on the CPU, fused with the rows' step.

Tokens are first sorted into partitions by a hash of their row, as a radix sort does, so that the rest of the
step takes one partition at a time, whose sums and hash table lie in the core's cache. Threads take partitions
from an atomic counter, and each partition's tokens keep the batch's order: the result depends on neither.

Shapes: L rows of the table, D dim, T tokens, B bags, C blocks of bags, P partitions, M threads, S slots of a
hash table.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from esmm_spark.model.embedding.optimizer_kernels import RowStep, step_rows
from esmm_spark.model.embedding.row_kernels import (
    AHEAD,
    BagTokens,
    Columns,
    first_bag,
    partition_of,
    prefetch_row,
)
from esmm_spark.model.kernels.compilation import fetch_and_add, kernel, parallel_kernel
from esmm_spark.runtime.arrays import Float32s, Ints
from esmm_spark.runtime.hash_kernels import fibonacci_slot, find_slot, floor_log2

_FREE = -1


class SortedTokens(NamedTuple):
    """Tokens, partition by partition, in the batch's order within one. At least T each.

    Attributes:
        rows: of the type of the tokens' rows.
        weights: float32.
        bags: int32, the bag of each token.
    """

    rows: Ints
    weights: Float32s
    bags: Ints


class RowSums(NamedTuple):
    """The gradients of the distinct rows of a partition, by hash table; one for each thread, [M, ...].

    Attributes:
        keys: [S] of the type of the tokens' rows, the hash table; S is a power of two greater than T.
        places: [S] int32, the place of a slot's row in `rows`.
        rows: [at least T] of the type of the tokens' rows, the distinct rows.
        sums: [at least T, D], the gradient of each.
    """

    keys: Ints
    places: Ints
    rows: Ints
    sums: Float32s


class Partitions(NamedTuple):
    """How the tokens are cut into partitions, and how far the threads have come.

    Attributes:
        ends: [C, P] int64, where in `SortedTokens` each partition's tokens of each block end; overwritten.
        counter: [1] int64, 0: partitions taken by all threads.
    """

    ends: Ints
    counter: Ints


@parallel_kernel
def sum_and_step_rows(
    columns: Columns,
    table: Float32s,
    tokens: BagTokens,
    gradient: Float32s,
    row_step: RowStep,
    partitions: Partitions,
    sorted_tokens: SortedTokens,
    row_sums: RowSums,
) -> None:
    """Sums the gradient of each distinct row and takes its step.

    Args:
        columns: of D.
        table: [L, D and the optimizer's state], rows and behind each its state, stepped in place.
        tokens: 0 <= row < L.
        gradient: [B, D], of what `pool` set.
        row_step: the optimizer's settings.
        partitions: scratch.
        sorted_tokens: scratch, overwritten.
        row_sums: scratch of M threads, overwritten.
    """
    ends, counter = partitions.ends, partitions.counter
    num_blocks, num_partitions = ends.shape
    for block in prange(num_blocks):
        _count_tokens(tokens, block, ends)
    _counts_to_starts(ends)
    for block in prange(num_blocks):
        _sort_tokens(tokens, block, ends, sorted_tokens)
    for thread in prange(row_sums.keys.shape[0]):
        while True:
            partition = fetch_and_add(counter)
            if partition >= num_partitions:
                break
            first = ends[num_blocks - 1, partition - 1] if partition else 0
            end = ends[num_blocks - 1, partition]
            of_partition = SortedTokens(
                sorted_tokens.rows[first:end], sorted_tokens.weights[first:end], sorted_tokens.bags[first:end]
            )
            of_thread = RowSums(
                row_sums.keys[thread], row_sums.places[thread], row_sums.rows[thread], row_sums.sums[thread]
            )
            count = _sum_rows(columns, of_partition, gradient, of_thread)
            step_rows(columns, table, of_thread.rows, of_thread.sums, count, row_step)


@kernel
def _count_tokens(tokens: BagTokens, block: int, counts: Ints) -> None:
    """Sets counts[block] [P] to the tokens of each partition among the block's bags."""
    num_blocks, num_partitions = counts.shape
    first, end = (
        first_bag(tokens.offsets, block, num_blocks),
        first_bag(tokens.offsets, block + 1, num_blocks),
    )
    rows, of_block = tokens.rows, counts[block]
    of_block[:] = 0
    for token in range(np.uint64(tokens.offsets[first]), np.uint64(tokens.offsets[end])):
        of_block[np.uint64(partition_of(rows[token], num_partitions))] += 1


@kernel
def _counts_to_starts(counts: Ints) -> None:
    """Turns the counts [C, P] of tokens, in place, into where each block's tokens of a partition start."""
    place = 0
    for partition in range(counts.shape[1]):
        for block in range(counts.shape[0]):
            count = counts[block, partition]
            counts[block, partition] = place
            place += count


@kernel
def _sort_tokens(tokens: BagTokens, block: int, next_places: Ints, out: SortedTokens) -> None:
    """Scatters a block's tokens to their partitions, from next_places[block] [P] on, which it advances."""
    num_blocks, num_partitions = next_places.shape
    first, end = (
        first_bag(tokens.offsets, block, num_blocks),
        first_bag(tokens.offsets, block + 1, num_blocks),
    )
    rows, weights, offsets = tokens
    out_rows, out_weights, out_bags = out
    next_place = next_places[block]
    for bag in range(np.uint64(first), np.uint64(end)):
        for token in range(np.uint64(offsets[bag]), np.uint64(offsets[bag + np.uint64(1)])):
            row = rows[token]
            partition = np.uint64(partition_of(row, num_partitions))
            place = np.uint64(next_place[partition])
            out_rows[place], out_weights[place], out_bags[place] = row, weights[token], bag
            next_place[partition] = place + np.uint64(1)


@kernel
def _sum_rows(columns: Columns, tokens: SortedTokens, gradient: Float32s, out: RowSums) -> int:
    """Sums the gradients of each distinct row of a partition's tokens; returns how many rows those are."""
    rows, weights, bags = tokens
    num_tokens = rows.shape[0]
    # At most all slots: they are more than tokens, so that one stays free.
    bits = min(floor_log2(2 * num_tokens) + 1, floor_log2(out.keys.shape[0]))
    keys, places, found, sums = out.keys[: 1 << bits], out.places, out.rows, out.sums
    count = np.uint64(0)
    keys[:] = _FREE
    for token in range(num_tokens):
        if token + AHEAD < num_tokens:
            prefetch_row(columns, gradient, bags[token + AHEAD], 0)
        row, weight, bag = rows[token], weights[token], np.uint64(bags[token])
        slot = np.uint64(find_slot(keys, row, _FREE, fibonacci_slot(row, bits)))
        if keys[slot] == _FREE:
            keys[slot], places[slot], found[count] = row, count, row
            for column in range(len(columns)):
                sums[count, column] = weight * gradient[bag, column]
            count += np.uint64(1)
        else:
            place = np.uint64(places[slot])
            for column in range(len(columns)):
                sums[place, column] += weight * gradient[bag, column]
    return int(count)
