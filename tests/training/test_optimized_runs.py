"""Whole runs with weight decay, clipping, a warm-up and a schedule: resumed, on two ranks, and refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.training.run import train
from tests.synthetic_examples import config_content, small_config, write_config
from tests.training.conftest import SETTINGS
from tests.training.runs import assert_same_model, curve, parameters, run, stop_at

NewRun = Callable[..., Path]
OPTIONS: dict[str, Any] = {
    "weight_decay": 0.1,
    "gradient_clip_norm": 0.05,
    "warmup_steps": 6,
    "learning_rate_decay": "cosine",
}
# Sums of float32 in another order, over 32 steps.
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def optimized(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder of the uninterrupted run with OPTIONS on one rank."""
    folder = tmp_path_factory.mktemp("optimized")
    (folder / "dataset").symlink_to(dataset)
    train(small_config(folder, **SETTINGS, **OPTIONS))
    return folder / "model"


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_the_model(new_run: NewRun, uninterrupted: Path, option: str) -> None:
    folder = new_run().parent
    train(small_config(folder, **SETTINGS, **{option: OPTIONS[option]}))
    ours, theirs = parameters(folder / "model"), parameters(uninterrupted)
    assert max(np.abs(ours[name] - theirs[name]).max() for name in theirs) > 1e-4


# In the warm-up, in the first epoch's decay, in the second's.
@pytest.mark.parametrize("step", [3, 12, 21])
def test_a_run_with_all_options_resumes_to_the_bit(
    new_run: NewRun, optimized: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder = new_run().parent
    config = small_config(folder, **SETTINGS, **OPTIONS)
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(SystemExit):
            train(config)
    assert train(config) is not None
    ours, theirs = parameters(folder / "model"), parameters(optimized)
    assert {name: value.tobytes() for name, value in ours.items()} == {
        name: value.tobytes() for name, value in theirs.items()
    }
    assert curve(folder / "model") == curve(optimized)


@pytest.mark.horovod
@pytest.mark.slow
def test_two_ranks_with_all_options_train_the_model_of_one(new_run: NewRun, optimized: Path) -> None:
    folder = new_run().parent
    result = run(2, write_config(folder, **SETTINGS, **OPTIONS))
    assert result.returncode == 0, result.stderr
    assert_same_model(folder / "model", optimized, TOLERANCE)


def test_a_run_of_before_these_options_goes_on_and_one_with_others_is_refused(new_run: NewRun) -> None:
    folder = new_run().parent
    train(small_config(folder, **SETTINGS, max_steps=5))
    with pytest.raises(
        ConfigError,
        match=r"is of another run: train\.weight_decay was 0\.0, is 0\.1; train\.gradient_clip_norm was not "
        r"set, is 0\.05: set train\.resume=false",
    ):
        train(small_config(folder, **SETTINGS, weight_decay=0.1, gradient_clip_norm=0.05))
    assert train(small_config(folder, **SETTINGS, weight_decay=0.0, warmup_steps=0)) is not None


def test_a_warm_up_as_long_as_the_run_is_refused_before_training(new_run: NewRun) -> None:
    folder = new_run().parent
    with pytest.raises(ConfigError, match=r"train\.warmup_steps = 32 >= the run's 32 steps"):
        train(small_config(folder, **SETTINGS, warmup_steps=32))
    assert not (folder / "model").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": -0.1}, r"train\.weight_decay"),
        ({"gradient_clip_norm": 0}, r"train\.gradient_clip_norm"),
        ({"warmup_steps": -1}, r"train\.warmup_steps"),
        ({"learning_rate_decay": "step"}, r"train\.learning_rate_decay"),
        ({"learning_rate": 0.5, "weight_decay": 2.0}, r"learning_rate x weight_decay = 1, the share"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config.model_validate(config_content(tmp_path, **settings))
