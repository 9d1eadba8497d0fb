"""Initial embedding rows as a function of (seed, row, column) alone, so that sharding doesn't change them."""

import torch
from torch import Tensor

from esmm_spark.model.kernels.mixing import STEP, mix64

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
    """
    num_local, dim = rows.shape
    columns = torch.arange(dim, device=rows.device)
    start_state = mix64(torch.tensor([seed % 2**63], device=rows.device))
    step = max(1, _CHUNK_ELEMENTS // dim)
    for start in range(0, num_local, step):
        local = torch.arange(start, min(start + step, num_local), device=rows.device)
        counter = ((local * num_ranks + rank) * dim)[:, None] + columns
        bits = mix64(counter.mul_(STEP).add_(start_state))
        # 24 bits are what a float32 holds exactly. The shift is arithmetic: they are in [-2^23, 2^23).
        rows[start : start + step] = (bits >> 40).float().mul_(init_range * 2.0**-23)
