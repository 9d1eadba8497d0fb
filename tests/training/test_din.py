"""Whole runs of din: two ranks, a resumed run, and what its training follows from."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, SpecMismatchError
from esmm_spark.training.run import train
from tests.synthetic_examples import UNPOOLED, config_content, small_config, write_small_dataset
from tests.training.runs import assert_same_model, curve, parameters, run, stop_at
from tests.training.test_ranks import TOLERANCE

# 20 steps of 2 epochs of 16, with all that a checkpoint must remember.
SETTINGS: dict[str, Any] = {
    "checkpoint_every_steps": 0,
    "max_steps": 20,
    "gradient_clip_norm": 0.5,
    "warmup_steps": 4,
    "learning_rate_decay": "cosine",
}


def content_of(folder: Path, **settings: Any) -> dict[str, Any]:
    content = config_content(folder, **{**SETTINGS, **settings})
    content["features"] = UNPOOLED.model_dump(mode="json")
    content["model"] |= {"network": "din", "network_options": {"attention": {"units": [8]}}}
    return content


@pytest.fixture(scope="module")
def din_of_one_rank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one rank on a dataset whose history isn't pooled."""
    folder = tmp_path_factory.mktemp("din")
    write_small_dataset(folder / "dataset", spec=UNPOOLED)
    train(Config.model_validate(content_of(folder)))
    return folder


@pytest.mark.slow
def test_din_learns(din_of_one_rank: Path) -> None:
    losses = [loss for _, loss in curve(din_of_one_rank / "model")]
    assert len(losses) == 20
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.02


@pytest.mark.horovod
@pytest.mark.slow
def test_two_ranks_train_the_din_of_one(din_of_one_rank: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset").symlink_to(din_of_one_rank / "dataset")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(content_of(tmp_path), sort_keys=False))
    result = run(2, config)
    assert result.returncode == 0, result.stderr
    assert_same_model(tmp_path / "model", din_of_one_rank / "model", TOLERANCE)


@pytest.mark.slow
def test_a_resumed_din_is_the_uninterrupted_one_to_the_bit(
    din_of_one_rank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dataset").symlink_to(din_of_one_rank / "dataset")
    config = Config.model_validate(content_of(tmp_path))
    with monkeypatch.context() as patch:
        stop_at(7, patch)
        with pytest.raises(SystemExit):
            train(config)
    train(config)
    whole, resumed = (parameters(folder / "model") for folder in (din_of_one_rank, tmp_path))
    assert any("attentions" in name for name in whole)
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


def test_a_dataset_of_pooled_histories_and_a_network_that_pools_are_refused(
    din_of_one_rank: Path, tmp_path: Path
) -> None:
    shutil.copytree(din_of_one_rank / "dataset", tmp_path / "dataset")
    with pytest.raises(SpecMismatchError, match="they differ in fields history"):
        train(small_config(tmp_path))
    content = content_of(tmp_path)
    content["model"] = {"network": "dcn"}
    with pytest.raises(ConfigError, match=r"history have pooling: none, but model\.network dcn takes"):
        train(Config.model_validate(content))
