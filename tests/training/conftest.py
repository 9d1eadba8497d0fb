"""One small dataset, and the model that one uninterrupted rank makes of it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esmm_spark.contracts.config import Config
from esmm_spark.training.run import train
from tests.synthetic_examples import small_config, write_config, write_small_dataset

TrainWhole = Callable[[Callable[[Path], Config]], Path]
# The runs that are compared: 2 epochs of 16 steps, a checkpoint every 5.
SETTINGS: dict[str, Any] = {"checkpoint_every_steps": 5, "keep_checkpoints": 100}


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "dataset"
    write_small_dataset(folder)
    return folder


@pytest.fixture
def new_run(dataset: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with the dataset and a config with the given `train` keys; returns the config's path."""

    def make(**settings: Any) -> Path:
        (tmp_path / "dataset").symlink_to(dataset)
        return write_config(tmp_path, **{**SETTINGS, **settings})

    return make


@pytest.fixture(scope="session")
def uninterrupted(dataset: Path) -> Path:
    """The models folder of the run with SETTINGS on one rank."""
    train(small_config(dataset.parent, **SETTINGS))
    return dataset.parent / "model"


@pytest.fixture(scope="session")
def train_whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainWhole:
    """Trains on the dataset, in a new folder, by the config for that folder; returns the models folder."""

    def in_new_folder(config_of: Callable[[Path], Config]) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        (folder / "dataset").symlink_to(dataset)
        train(config_of(folder))
        return folder / "model"

    return in_new_folder


@pytest.fixture
def own_dataset(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset that a test may damage, below its `tmp_path`."""
    shutil.copytree(dataset, tmp_path / "dataset")
    return tmp_path / "dataset"
