"""Deduplicates a batch's rows per owner rank, on the CPU.

Shapes: T tokens, U distinct rows, P partitions of the rows (one a thread), R ranks, S slots of a hash table.
"""

from typing import NamedTuple

from numba import prange

from esmm_spark.model.embedding.row_kernels import partition_of
from esmm_spark.model.kernels.compilation import kernel, parallel_kernel
from esmm_spark.runtime.arrays import Ints
from esmm_spark.runtime.hash_kernels import fibonacci_slot, find_slot, floor_log2

_FREE = -1


class RowNumbers(NamedTuple):
    """The distinct rows of each partition, numbered from 0 in the order of their first tokens.

    Attributes:
        rows: [P, T] of the type of the tokens' rows, each partition's distinct rows.
        counts: [P] int64, how many those are.
        partitions: [T] int32, the partition of each token's row.
        positions: [T] int32, the number of each token's row within its partition.
    """

    rows: Ints
    counts: Ints
    partitions: Ints
    positions: Ints


@parallel_kernel
def number_rows(rows: Ints, keys: Ints, places: Ints, numbers: RowNumbers) -> None:
    """Numbers the distinct rows of each partition.

    Args:
        rows: [T], none negative.
        keys: [P, S] of the rows' type, S a power of two greater than T; overwritten.
        places: [P, S] int32; overwritten.
        numbers: set.
    """
    for partition in prange(keys.shape[0]):
        _number_partition(rows, keys[partition], places[partition], numbers, partition)


@kernel
def _number_partition(rows: Ints, keys: Ints, places: Ints, numbers: RowNumbers, partition: int) -> None:
    num_partitions, distinct = numbers.counts.shape[0], numbers.rows[partition]
    positions, partitions = numbers.positions, numbers.partitions
    bits, count = floor_log2(keys.shape[0]), 0
    keys[:] = _FREE
    for token in range(rows.shape[0]):
        row = rows[token]
        if partition_of(row, num_partitions) != partition:
            continue
        partitions[token] = partition
        slot = find_slot(keys, row, _FREE, fibonacci_slot(row, bits))
        if keys[slot] == _FREE:
            keys[slot], places[slot], distinct[count] = row, count, row
            count += 1
        positions[token] = places[slot]
    numbers.counts[partition] = count


@parallel_kernel
def sort_by_owner(
    numbers: RowNumbers, places: Ints, next_place: Ints, splits: Ints, local_rows: Ints
) -> None:
    """Sorts distinct rows by the rank that owns them: row r is rank r % R's row r // R.

    Args:
        numbers: of `number_rows`; `positions` are set to those in `local_rows`.
        places: [P, at least the largest count]; overwritten.
        next_place: [R]; overwritten.
        splits: [R], set to the number of rows of each rank.
        local_rows: [U], set to the rows as their owners number them, rank by rank.
    """
    _place_rows(numbers, places, next_place, splits, local_rows)
    num_threads = places.shape[0]
    for thread in prange(num_threads):
        _look_up_places(numbers, places, thread, num_threads)


@kernel
def _place_rows(numbers: RowNumbers, places: Ints, next_place: Ints, splits: Ints, local_rows: Ints) -> None:
    """Counting sort of the distinct rows by rank; `places` are those of each partition's rows."""
    rows, counts, num_ranks = numbers.rows, numbers.counts, splits.shape[0]
    splits[:] = 0
    for partition in range(counts.shape[0]):
        for number in range(counts[partition]):
            splits[rows[partition, number] % num_ranks] += 1
    next_place[0] = 0
    for rank in range(1, num_ranks):
        next_place[rank] = next_place[rank - 1] + splits[rank - 1]
    for partition in range(counts.shape[0]):
        for number in range(counts[partition]):
            row = rows[partition, number]
            rank = row % num_ranks
            place = next_place[rank]
            local_rows[place], places[partition, number] = row // num_ranks, place
            next_place[rank] = place + 1


@kernel
def _look_up_places(numbers: RowNumbers, places: Ints, thread: int, num_threads: int) -> None:
    """Sets the positions of one thread's share of the tokens."""
    positions, partitions = numbers.positions, numbers.partitions
    num_tokens = positions.shape[0]
    first, end = num_tokens * thread // num_threads, num_tokens * (thread + 1) // num_threads
    for token in range(first, end):
        positions[token] = places[partitions[token], positions[token]]
