"""din from raw lines to scores: preprocessed value by value, trained, and scored with training's forward."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

from bench.network_contenders import CONTENDERS, demo_content
from esmm_spark.contracts.config import Config
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import EpochPlan, row_groups_of
from esmm_spark.feed.reader import open_feed
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.model import directory
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.samples.dataset import preprocess, read_splits
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.simulation.simulate import simulate
from esmm_spark.training.build import build_trainer
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.run import train
from tests.training.runs import newest_version

pytestmark = [pytest.mark.spark, pytest.mark.slow]


def test_din_goes_from_raw_lines_to_the_scores_of_trainings_forward(
    spark: SparkSession, tmp_path: Path
) -> None:
    simulate(spark, str(tmp_path / "raw"), 300, 1, "demo")
    content = demo_content(tmp_path / "raw", tmp_path, CONTENDERS["din-no-crosses"])
    content["model"] |= {"hidden_units": [16], "network_options": {"attention": {"units": [8]}}}
    content["train"] |= {"batch_size": 256, "tensorboard": False, "threads": 1}
    config = Config.model_validate(content)
    preprocess(spark, config, read_splits)
    manifest = read_manifest(config.paths.dataset)
    counts = manifest.partitions["split=test"]
    # Logs with histories in no order of time: nothing is cut.
    assert all("tokens_beyond_max_length" not in source.notes for source in manifest.sources)
    assert train(config) is not None
    score(spark, plan_scoring(config))
    scores = pq.read_table(tmp_path / "scores" / "split=test").to_pandas().set_index("impression_id")
    assert len(scores) == counts.impressions > 2000

    found = _forward(config).sigmoid()
    ids = [
        impression_id
        for file in counts.files
        for group in pq.read_table(f"{config.paths.dataset}/{file.path}")["impression_id"].to_pylist()
        for impression_id in group
    ]
    scored = scores.loc[ids]
    np.testing.assert_allclose(scored.pctr, found[0], rtol=1e-4)
    np.testing.assert_allclose(scored.pcvr, found[1], rtol=1e-4)
    assert scored.pctr.std() > 0.01


def _forward(config: Config) -> torch.Tensor:
    """Returns logits [2, N] of the test split, in the order of the examples, by the kernels that train."""
    version = str(newest_version(Path(config.paths.model)))
    trainer = build_trainer(config, Cluster(0, 1, 0, 1))
    directory.load_parameters(trainer.model, f"{version}/dense.safetensors")
    trainer.arena.load_local(directory.open_rows(version, directory.read_info(version)).of_rank(0, 1))
    counts = read_manifest(config.paths.dataset).partitions["split=test"]
    plan = EpochPlan(row_groups_of(counts), 1, 512, seed=0, epoch=0, shuffle=False)
    found = []
    with open_feed(config.paths.dataset, Layout(config.features), plan, 0, 1) as batches:
        for batch in batches:
            embedded = embed_batch(trainer.arena, batch, config.features)
            found.append(trainer.model.train()(*embedded).detach())
    return torch.cat(found, 1)
