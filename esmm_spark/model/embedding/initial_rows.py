"""Initial embedding rows as a function of (seed, row, column) alone, so that sharding doesn't change them."""

import torch
from torch import Tensor

# Elements hashed at a time: they and their temporaries stay in the cores' caches.
_CHUNK_ELEMENTS = 1 << 18


def fill_uniform(rows: Tensor, rank: int, num_ranks: int, init_range: float, seed: int) -> None:
    """Fills `rows` with numbers uniform in [-init_range, init_range).

    Element (local row i, column d) is the top 24 bits of splitmix64's output number (rank + i * num_ranks) *
    D + d of the stream that starts at `seed`, so it depends on the arena row and not on who owns it.

    Args:
        rows: [L, D] float32, may be a view; local row i is arena row rank + i * num_ranks.
        rank: this rank.
        num_ranks: ranks that share the arena.
        init_range: half the width of the range.
        seed: any int.

    Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 17
    (mix64variant13).
    """
    num_local, dim = rows.shape
    columns = torch.arange(dim, device=rows.device)
    start_state = _mix(torch.tensor([seed % 2**63], device=rows.device))
    step = max(1, _CHUNK_ELEMENTS // dim)
    for start in range(0, num_local, step):
        local = torch.arange(start, min(start + step, num_local), device=rows.device)
        counter = ((local * num_ranks + rank) * dim)[:, None] + columns
        bits = _mix(counter.mul_(_signed(0x9E3779B97F4A7C15)).add_(start_state))
        # 24 bits are what a float32 holds exactly. The shift is arithmetic: they are in [-2^23, 2^23).
        rows[start : start + step] = (bits >> 40).float().mul_(init_range * 2.0**-23)


def _mix(z: Tensor) -> Tensor:
    """Returns splitmix64's finaliser of int64 `z`, in place. int64 multiplication wraps as unsigned does."""
    z.bitwise_xor_(_shift_right(z, 30)).mul_(_signed(0xBF58476D1CE4E5B9))
    z.bitwise_xor_(_shift_right(z, 27)).mul_(_signed(0x94D049BB133111EB))
    return z.bitwise_xor_(_shift_right(z, 31))


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Returns `z` shifted right with zeros coming in: torch's own shift copies the sign."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(constant: int) -> int:
    return constant - 2**64 if constant >= 2**63 else constant
