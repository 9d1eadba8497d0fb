"""Compiles the kernels of training for the configs in conf/ and keeps them in the user's cache.

scripts/setup.sh runs it, so that not the first training run has to: that would take half a minute longer.
"""

from pathlib import Path

import torch

from esmm_spark.config_file import load_config
from esmm_spark.feed.batch import batch_of
from esmm_spark.model.arena import EmbeddingArena
from esmm_spark.model.distinct import distinct_by_owner
from esmm_spark.model.esmm import build_esmm, embed_batch

_CONF = Path(__file__).resolve().parent.parent / "conf"


def main() -> None:
    """Takes an empty step of a model of each dim, and what several ranks do beside it."""
    configs = [load_config(str(path)) for path in sorted(_CONF.glob("*.yaml"))]
    for dim in sorted({config.model.dim for config in configs}):
        config = next(config for config in configs if config.model.dim == dim)
        spec = config.features
        arena = EmbeddingArena(
            spec.num_rows, dim, rank=0, num_ranks=1, learning_rate=0.1, eps=1e-8, init_range=0.0, seed=0
        )
        batch = batch_of([], spec)
        pooled = embed_batch(arena, batch, spec)
        labels = batch.click, batch.conversion
        build_esmm(config.model, spec).training_loss(*pooled, batch.group_sizes, labels, 1.0).backward()
        fetched = torch.zeros(0, dim, requires_grad=True)
        nothing = torch.zeros(0, dtype=batch.context_rows.dtype)
        distinct = distinct_by_owner(nothing, 2)
        distinct.pool(fetched, torch.zeros(1, dtype=torch.int32), torch.zeros(0)).sum().backward()


if __name__ == "__main__":
    main()
