"""Trains on batches in memory with an arena of another size: the rows of the tokens are spread over it.

Every row becomes one of `num_rows` by a fixed mixing function, so that frequent rows stay as frequent.
"""

import argparse
import itertools
import json
import resource
from dataclasses import replace
from pathlib import Path

import torch

from bench.training import Session
from esmm_spark.contracts.config_file import load_config
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.lookup import Lookup
from esmm_spark.model.embedding.row_optimizer import row_optimizer_of
from esmm_spark.training.ranks.cluster import Cluster

_MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64
_WARM_UP = 10


class _Spread:
    """An arena of more or fewer rows than the feature spec has: `BatchLookup` asks for `num_rows`."""

    def __init__(self, arena: EmbeddingArena, spec_rows: int) -> None:
        self.arena, self.num_rows = arena, spec_rows

    def start(self, rows: torch.Tensor, weights: torch.Tensor, lengths: torch.Tensor) -> Lookup:
        return self.arena.start(rows, weights, lengths)


def spread(rows: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Returns int64 rows below `num_rows`, the same for the same row."""
    mixed = rows.long() * _MULTIPLIER
    return ((mixed ^ (mixed >> 29)) & (2**62 - 1)) % num_rows


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--steps", type=int, default=180)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    prepared = [
        replace(
            batch,
            context_rows=spread(batch.context_rows, arguments.rows).int(),
            impression_rows=spread(batch.impression_rows, arguments.rows).int(),
        )
        for batch in session.prepared(min(arguments.batches, session.plan().num_steps))
    ]
    session.trainer.arena = None  # type: ignore[assignment]
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    arena = EmbeddingArena(
        arguments.rows,
        config.model.dim,
        optimizer=row_optimizer_of(config.train),
        init_range=config.model.embedding_init,
        seed=config.train.seed,
    )
    session.trainer.arena = _Spread(arena, config.features.num_rows)  # type: ignore[assignment]
    steps = min(arguments.steps, session.plan().num_steps)
    rate = session.rate(itertools.cycle(prepared), steps, min(_WARM_UP, steps // 4))
    result = {
        "rate": rate,
        "rows": arguments.rows,
        "bytes": 4 * (config.model.dim + arena.optimizer.state_width(config.model.dim)) * arguments.rows,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "before_mib": before_mib,
    }
    arguments.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
