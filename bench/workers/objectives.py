"""Times a step of each preset, and of ESMM over longer funnels, in turns on the same batches in memory.

Writes milliseconds a step and the number of heads of each: look-up, towers, loss, backward and both
optimizers, on one rank.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch

from bench.training import Session
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.losses import PRESETS
from esmm_spark.contracts.objective import Objective, resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.feed.batch import Batch
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.row_optimizer import row_optimizer_of
from esmm_spark.model.esmm import Esmm, build_esmm
from esmm_spark.training.ranks.cluster import Cluster

_FUNNELS = (3, 4, 6)


@dataclass(frozen=True)
class _Contender:
    name: str
    objective: Objective
    esmm: Esmm
    arena: EmbeddingArena
    adam: torch.optim.Optimizer

    def step(self, batch: Batch, config: Config) -> None:
        """Trains one batch; tasks beyond conversion never happen."""
        missing = len(self.objective.tasks.names) - len(batch.labels)
        labels = torch.cat([batch.labels, batch.labels.new_zeros(missing, batch.num_impressions)])
        inputs = embed_batch(self.arena, batch, config.features)
        self.adam.zero_grad()
        self.esmm.training_loss(inputs, labels, 1 / batch.num_impressions).backward()
        self.adam.step()


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--turns", type=int, default=12)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    batches = session.prepared(arguments.batches)
    contenders = _contenders(config)
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(arguments.turns + 1):
        for contender in contenders:
            started = time.perf_counter()
            for batch in islice(cycle(batches), len(batches)):
                contender.step(batch, config)
            # The first turn compiles and warms up.
            if turn > 0:
                times[contender.name].append(1000 * (time.perf_counter() - started) / len(batches))
    found = {
        contender.name: {
            "heads": len(contender.objective.heads),
            "embeddings": contender.objective.num_embeddings,
            "ms_per_step": min(times[contender.name]),
            "median_ms_per_step": statistics.median(times[contender.name]),
        }
        for contender in contenders
    }
    arguments.out.write_text(json.dumps({"presets": found, "batch_size": config.train.batch_size}))


def _contenders(config: Config) -> list[_Contender]:
    arenas: dict[int, EmbeddingArena] = {}
    objectives = {
        name: resolve(config.model.model_copy(update={"objective": name}), [], DEFAULT_TASKS)
        for name in PRESETS
    }
    objectives |= {f"esmm, {size} tasks": resolve(config.model, [], funnel(size)) for size in _FUNNELS}
    found = []
    for name, objective in objectives.items():
        torch.manual_seed(config.train.seed)
        esmm = build_esmm(config.model, config.features, objective)
        copies = objective.num_embeddings
        if copies not in arenas:
            arenas[copies] = EmbeddingArena(
                copies * config.features.num_rows,
                config.model.dim,
                optimizer=row_optimizer_of(config.train),
                init_range=config.model.embedding_init,
                seed=config.train.seed,
            )
        adam = torch.optim.Adam(esmm.parameters(), lr=config.train.learning_rate, fused=True)
        found.append(_Contender(name, objective, esmm, arenas[copies], adam))
    return found


def funnel(num_tasks: int) -> Tasks:
    """Returns click, conversion given click, and so on: a chain of `num_tasks`."""
    names = ["click", "conversion", *(f"step_{number}" for number in range(3, num_tasks + 1))]
    parents = [None, *names[:-1]]
    return Tasks.model_validate(
        {name: {"given": parent} for name, parent in zip(names, parents, strict=True)}
    )


if __name__ == "__main__":
    main()
