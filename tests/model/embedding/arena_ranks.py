"""Trains an arena for a few steps; started by test_arena_ranks.py, alone, by horovodrun or torchrun.

arena_ranks.py OUTPUT_FOLDER OPTIMIZER writes rank-R-of-N.npz: this rank's rows and their state, the pooled
bags of its share of each step, and the bytes that it has sent by then.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch

from esmm_spark.collectives.horovod_collectives import HorovodCollectives
from esmm_spark.collectives.interface import Collectives
from esmm_spark.collectives.torch_collectives import TorchCollectives
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.row_optimizer import RowOptimizer

NUM_ROWS, NUM_STEPS, NUM_BAGS = 101, 5, 12
OPTIMIZERS = {
    "rowwise_adagrad": RowOptimizer(0.1, 1e-6),
    "adam": RowOptimizer(0.1, 1e-6, "adam", l2=0.2),
    "sgd": RowOptimizer(0.1, 1e-6, "sgd", l2=0.2),
}


def global_batch(step: int) -> tuple[torch.Tensor, list[list[int]], list[list[float]]]:
    """Returns the target [NUM_BAGS, dim] and the rows and weights of each bag, some empty, rows repeated."""
    random = np.random.default_rng(step)
    rows = [random.integers(0, NUM_ROWS, random.integers(0, 5)).tolist() for _ in range(NUM_BAGS)]
    rows[0] = [NUM_ROWS - 1, 7, 7]
    rows[NUM_BAGS - 1] = [7, 0]
    weights = [random.normal(size=len(bag)).tolist() for bag in rows]
    return torch.from_numpy(random.normal(size=(NUM_BAGS, 18)).astype(np.float32)), rows, weights


def share(step: int, rank: int, num_ranks: int) -> range:
    """Returns the bags of one rank: uneven, and in step 1 the last of several ranks has none."""
    if num_ranks == 1:
        return range(NUM_BAGS)
    cuts = [0, *range(3, 3 * num_ranks, 3), NUM_BAGS]
    if step == 1:
        cuts[-2] = NUM_BAGS
    return range(cuts[rank], cuts[rank + 1])


def main(folder: str, name: str) -> None:
    ranks: Collectives | None = None
    if "HOROVOD_RANK" in os.environ:
        ranks = HorovodCollectives()
    elif "RANK" in os.environ:
        ranks = TorchCollectives()
    rank, num_ranks = (ranks.rank, ranks.num_ranks) if ranks else (0, 1)
    arena = EmbeddingArena(
        NUM_ROWS, 18, collectives=ranks, optimizer=OPTIMIZERS[name], init_range=0.5, seed=11
    )
    pooled, sent = [], []
    for step in range(NUM_STEPS):
        arena.begin_step(step + 1, 0.1)
        target, rows, weights = global_batch(step)
        mine = share(step, rank, num_ranks)
        out = arena(
            torch.tensor([row for bag in mine for row in rows[bag]], dtype=torch.int32),
            torch.tensor([weight for bag in mine for weight in weights[bag]], dtype=torch.float32),
            torch.tensor([len(rows[bag]) for bag in mine], dtype=torch.int32),
        )
        (out - target[mine.start : mine.stop]).square().sum().backward()
        pooled.append(out.detach().numpy())
        sent.append(arena.exchanged_bytes)
    np.savez(
        Path(folder) / f"rank-{rank}-of-{num_ranks}.npz",
        rows=arena.local_rows().numpy(),
        **{key: tensor.numpy() for key, tensor in arena.state().items()},
        sent=np.array(sent),
        **{f"pooled{step}": array for step, array in enumerate(pooled)},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
