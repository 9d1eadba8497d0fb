"""How the distinct rows of a batch are found and sorted by owner on the CPU, compiled.

Shapes: T tokens, U distinct rows, P parts (threads), R ranks, S slots of a hash table.
"""

from numba import prange

from esmm_spark.model.kernels import kernel, parallel_kernel
from esmm_spark.model.row_kernels import Ints, part_of, slot_bits, slot_of


@parallel_kernel
def number_rows(
    rows: Ints,
    keys: Ints,
    places: Ints,
    found: Ints,
    counts: Ints,
    positions: Ints,
    owners: Ints,
    parts: int,
) -> None:
    """Numbers the distinct rows of each part from 0, in the order of their first tokens.

    Args:
        rows: [T], none negative.
        keys: [P, S] of the rows' type, S a power of two greater than T; overwritten.
        places: [P, S] int32; overwritten.
        found: [P, T], set to each part's distinct rows.
        counts: [P], set to how many those are.
        positions: [T], set to the number of each token's row within its part.
        owners: [T], set to the part of each token's row.
        parts: P.
    """
    for part in prange(parts):
        counts[part] = _number_part(
            rows, keys[part], places[part], found[part], positions, owners, part, parts
        )


@kernel
def _number_part(
    rows: Ints,
    keys: Ints,
    places: Ints,
    found: Ints,
    positions: Ints,
    owners: Ints,
    part: int,
    parts: int,
) -> int:
    bits, count = slot_bits(keys.shape[0]), 0
    keys[:] = -1
    for token in range(rows.shape[0]):
        row = rows[token]
        if part_of(row, parts) != part:
            continue
        owners[token] = part
        slot = slot_of(keys, row, bits)
        if keys[slot] == -1:
            keys[slot], places[slot], found[count] = row, count, row
            count += 1
        positions[token] = places[slot]
    return count


@parallel_kernel
def sort_by_owner(
    found: Ints,
    counts: Ints,
    next_place: Ints,
    splits: Ints,
    local_rows: Ints,
    positions: Ints,
    owners: Ints,
    places: Ints,
) -> None:
    """Brings the rows that `number_rows` found into the order of the ranks that own them.

    Row r belongs to rank r % R, where it is row r // R.

    Args:
        found: [P, T].
        counts: [P].
        next_place: [R]; overwritten.
        splits: [R], set to the rows of each rank.
        local_rows: [U], set to the rows as their owners number them.
        positions: [T], within the part; set to those in `local_rows`.
        owners: [T], the part of each token's row.
        places: [P, at least the largest count]; overwritten.
    """
    num_ranks = splits.shape[0]
    splits[:] = 0
    for part in range(counts.shape[0]):
        for number in range(counts[part]):
            splits[found[part, number] % num_ranks] += 1
    next_place[0] = 0
    for rank in range(1, num_ranks):
        next_place[rank] = next_place[rank - 1] + splits[rank - 1]
    for part in range(counts.shape[0]):
        for number in range(counts[part]):
            row = found[part, number]
            rank = row % num_ranks
            place = next_place[rank]
            local_rows[place], places[part, number] = row // num_ranks, place
            next_place[rank] = place + 1
    for token in prange(positions.shape[0]):
        positions[token] = places[owners[token], positions[token]]
