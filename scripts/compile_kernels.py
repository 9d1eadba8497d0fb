"""Compiles the kernels of training for the configs in conf/ and keeps them in the user's cache.

scripts/setup.sh runs it, so that not the first training run has to: its first step would come 11 s later.
"""

from pathlib import Path

import torch

from esmm_spark.config_file import load_config
from esmm_spark.features import FeatureSpec
from esmm_spark.feed.batch import batch_of
from esmm_spark.model.arena import EmbeddingArena
from esmm_spark.model.distinct import distinct_by_owner
from esmm_spark.model.embedding import embed_batch
from esmm_spark.model.esmm import build_esmm

# Kernels are the same for all fields: the smallest arena serves.
_SPEC = FeatureSpec.model_validate(
    {
        "tables": {"values": {"num_buckets": 2}},
        "fields": [
            {"name": "user", "level": "context", "table": "values"},
            {"name": "item", "level": "impression", "table": "values"},
        ],
    }
)
_CONF = Path(__file__).resolve().parent.parent / "conf"


def main() -> None:
    """Takes an empty step of a model of each dim, and what several ranks do beside it."""
    configs = [load_config(str(path)) for path in sorted(_CONF.glob("*.yaml"))]
    for model in {config.model.dim: config.model for config in configs}.values():
        arena = EmbeddingArena(_SPEC.num_rows, model.dim, learning_rate=0.1, eps=1e-8, init_range=0.0, seed=0)
        batch = batch_of([], _SPEC)
        pooled = embed_batch(arena, batch, _SPEC)
        labels = batch.click, batch.conversion
        build_esmm(model, _SPEC).training_loss(*pooled, batch.group_sizes, labels, 1.0).backward()
        fetched = torch.zeros(0, model.dim, requires_grad=True)
        nothing = torch.zeros(0, dtype=batch.context_rows.dtype)
        distinct = distinct_by_owner(nothing, 2)
        distinct.pool(fetched, torch.zeros(1, dtype=torch.int32), torch.zeros(0)).sum().backward()


if __name__ == "__main__":
    main()
