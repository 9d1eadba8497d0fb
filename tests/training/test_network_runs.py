"""Whole runs of the networks that give all heads: resumed, on two ranks, and scored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from esmm_spark.contracts.config import Config
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import EpochPlan, row_groups_of
from esmm_spark.feed.reader import open_feed
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.model import directory
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.serving import ServingEmbedding
from esmm_spark.training.build import build_trainer
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.run import train
from tests.synthetic_examples import SPEC, config_content, write_config
from tests.training.conftest import SETTINGS
from tests.training.runs import assert_same_model, curve, newest_version, parameters, run, stop_at

NewRun = Callable[..., Path]
# 20 steps, over the end of an epoch, with all that a checkpoint must hold or follow from.
OPTIONS: dict[str, Any] = {
    **SETTINGS,
    "max_steps": 20,
    "weight_decay": 0.05,
    "gradient_clip_norm": 0.5,
    "warmup_steps": 3,
    "learning_rate_decay": "cosine",
}
NETWORKS: dict[str, dict[str, Any]] = {
    "mmoe": {"num_experts": 3, "expert_units": [12], "tower_units": [8]},
    "ple": {"expert_units": [[12], [8]], "tower_units": [6]},
    "aitm": {"tower_units": [12, 8]},
}
# Sums of float32 in another order, over 20 steps.
TOLERANCE = 2e-4


def config_of(folder: Path, network: str, **options: Any) -> Config:
    content = config_content(folder, **OPTIONS)
    content["model"] = {"dim": 4, "network": network, "network_options": {**NETWORKS[network], **options}}
    return Config.model_validate(content)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory, network: str) -> Path:
    """The folder of the network's uninterrupted run on one rank."""
    folder = tmp_path_factory.mktemp(network)
    (folder / "dataset").symlink_to(dataset)
    train(config_of(folder, network))
    return folder


@pytest.mark.slow
def test_a_run_with_dropout_resumes_to_the_bit(
    dataset: Path, tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "whole", tmp_path / "resumed"]
    for folder in folders:
        folder.mkdir()
        (folder / "dataset").symlink_to(dataset)
    whole, resumed = (config_of(folder, network, dropout=0.2) for folder in folders)
    assert train(whole) is not None
    with monkeypatch.context() as patch:
        stop_at(7, patch)
        with pytest.raises(SystemExit):
            train(resumed)
    assert train(resumed) is not None
    theirs, ours = (parameters(folder / "model") for folder in folders)
    assert {name: value.tobytes() for name, value in ours.items()} == {
        name: value.tobytes() for name, value in theirs.items()
    }
    assert curve(folders[0] / "model") == curve(folders[1] / "model")


@pytest.mark.horovod
@pytest.mark.slow
def test_two_ranks_train_the_model_of_one(new_run: NewRun, whole: Path, network: str) -> None:
    folder = new_run().parent
    overrides = [f"model.network={network}", f"model.network_options={NETWORKS[network]}"]
    result = run(2, write_config(folder, **OPTIONS), *overrides)
    assert result.returncode == 0, result.stderr
    assert_same_model(folder / "model", whole / "model", TOLERANCE)


@pytest.mark.slow
def test_scoring_gives_the_logits_of_trainings_forward(whole: Path, network: str) -> None:
    version = str(newest_version(whole / "model"))
    info = directory.read_info(version)
    rows = directory.open_rows(version, info)
    trainer = build_trainer(config_of(whole, network), Cluster(0, 1, 0, 1))
    directory.load_parameters(trainer.model, f"{version}/dense.safetensors")
    own = rows.of_rank(0, 1)
    trainer.arena.load_local(own)
    counts = read_manifest(str(whole / "dataset")).partitions["split=validation"]
    plan = EpochPlan(row_groups_of(counts), 2, 200, seed=0, epoch=0, shuffle=False)
    dense, embedding = directory.load_dense(version, info), ServingEmbedding(rows)
    with open_feed(str(whole / "dataset"), Layout(SPEC), plan, 0, 1) as batches, torch.no_grad():
        for batch in batches:
            scored = dense(*embed_batch(embedding, batch, SPEC))
            embedded = embed_batch(trainer.arena, batch, SPEC)
            with torch.enable_grad():  # by the kernels that train
                trained = trainer.model.train()(*embedded)
            assert scored.shape == (2, batch.num_impressions)
            torch.testing.assert_close(scored, trained.detach(), rtol=1e-5, atol=1e-6)
