"""Compiles the kernels of preprocessing and training for the configs in conf/, into the user's cache.

scripts/setup.sh runs it, so that not the first run has to: preprocessing would take 20 s longer, and
training's first step would come 11 s later.
"""

from pathlib import Path

import pyarrow as pa
import torch

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import DEFAULT_COLUMNS
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.feed.batch import batch_of
from esmm_spark.feed.groups import Layout
from esmm_spark.logs.lines import CONTEXT
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.distinct import distinct_by_owner
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import build_esmm
from esmm_spark.samples.grouping.batches import row_dtype
from esmm_spark.samples.task import compile_kernels
from esmm_spark.samples.value_counts import count_values

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
    """Compiles for every config in conf/."""
    configs = [load_config(str(path)) for path in sorted(_CONF.glob("*.yaml"))]
    compile_for_preprocessing(configs)
    compile_for_training(configs)


def compile_for_preprocessing(configs: list[Config]) -> None:
    """Groups a few lines as each type of arena rows, and counts their values."""
    for spec in {row_dtype(config.features): config.features for config in configs}.values():
        compile_kernels(spec)
        lines = pa.record_batch([pa.array([CONTEXT], pa.int8()), pa.array([b"k,0,"])], ["kind", "line"])
        list(count_values([lines], spec, DEFAULT_COLUMNS))


def compile_for_training(configs: list[Config]) -> None:
    """Takes an empty step of a model of each dim, and what several ranks do beside it."""
    # The compiled loss is the same for all objectives.
    objective = resolve(Model(), [], DEFAULT_TASKS)
    for model in {config.model.dim: config.model for config in configs}.values():
        arena = EmbeddingArena(_SPEC.num_rows, model.dim, optimizer=RowOptimizer(0.1), init_range=0.0, seed=0)
        batch = batch_of([], Layout(_SPEC))
        embedded = embed_batch(arena, batch, _SPEC)
        esmm = build_esmm(model, _SPEC, objective)
        esmm.training_loss(embedded, batch.labels, 1.0).backward()
        fetched = torch.zeros(0, model.dim, requires_grad=True)
        nothing = torch.zeros(0, dtype=batch.context_rows.dtype)
        distinct = distinct_by_owner(nothing, 2)
        distinct.pool(fetched, torch.zeros(1, dtype=torch.int32), torch.zeros(0)).sum().backward()


if __name__ == "__main__":
    main()
