"""Whole runs with other optimizers, decay, clipping and schedules: resumed, on two ranks, and refused."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.files.tensor_file import read_tensors
from esmm_spark.model.shards import write_shard
from esmm_spark.training import checkpoint
from esmm_spark.training.run import train
from tests.synthetic_examples import config_content, rewrite, small_config, write_config
from tests.training.conftest import SETTINGS, TrainWhole
from tests.training.runs import (
    assert_same_model,
    assert_same_to_the_bit,
    curve,
    parameters,
    run,
    stop_and_resume,
)

NewRun = Callable[..., Path]
OPTIONS: dict[str, Any] = {
    "weight_decay": 0.1,
    "gradient_clip_norm": 0.05,
    "warmup_steps": 6,
    "learning_rate_decay": "cosine",
}
ROW_OPTIONS: dict[str, dict[str, Any]] = {
    "rowwise_adagrad": OPTIONS,
    "adam": {
        **OPTIONS,
        "embedding_optimizer": "adam",
        "embedding_learning_rate": 0.01,
        "embedding_l2": 1e-4,
    },
    "sgd": {**OPTIONS, "embedding_optimizer": "sgd", "embedding_learning_rate": 1.0, "embedding_l2": 1e-4},
}
# Sums of float32 in another order, over 32 steps.
TOLERANCE = 2e-4
Optimized = Callable[[str], Path]


@pytest.fixture(scope="module")
def optimized(train_whole: TrainWhole) -> Optimized:
    """Returns the models folder of the uninterrupted run with an optimizer's ROW_OPTIONS on one rank."""
    return functools.cache(
        lambda optimizer: train_whole(
            lambda folder: small_config(folder, **SETTINGS, **ROW_OPTIONS[optimizer])
        )
    )


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.slow
def test_each_option_changes_the_model(new_run: NewRun, uninterrupted: Path, option: str) -> None:
    folder = new_run().parent
    train(small_config(folder, **SETTINGS, **{option: OPTIONS[option]}))
    ours, theirs = parameters(folder / "model"), parameters(uninterrupted)
    assert max(np.abs(ours[name] - theirs[name]).max() for name in theirs) > 1e-4


# In the warm-up, in the first epoch's decay, in the second's.
@pytest.mark.parametrize(
    ("step", "optimizer"),
    [(3, "rowwise_adagrad"), (12, "rowwise_adagrad"), (21, "rowwise_adagrad"), (12, "adam"), (21, "sgd")],
)
@pytest.mark.slow
def test_a_run_with_all_options_resumes_to_the_bit(
    new_run: NewRun, optimized: Optimized, monkeypatch: pytest.MonkeyPatch, step: int, optimizer: str
) -> None:
    folder = new_run().parent
    stop_and_resume(small_config(folder, **SETTINGS, **ROW_OPTIONS[optimizer]), step, monkeypatch)
    assert_same_to_the_bit(folder / "model", optimized(optimizer))
    losses = [loss for _, loss in curve(folder / "model")]
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.02


@pytest.mark.horovod
@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ROW_OPTIONS)
def test_two_ranks_with_all_options_train_the_model_of_one(
    new_run: NewRun, optimized: Optimized, optimizer: str
) -> None:
    folder = new_run().parent
    result = run(2, write_config(folder, **SETTINGS, **ROW_OPTIONS[optimizer]))
    assert result.returncode == 0, result.stderr
    assert_same_model(folder / "model", optimized(optimizer), TOLERANCE)


@pytest.mark.slow
def test_one_rank_goes_on_from_a_checkpoint_of_two_with_adams_moments(
    new_run: NewRun, optimized: Optimized
) -> None:
    """The checkpoint of two ranks is one of one rank, its rows dealt out to two files."""
    folder, options = new_run().parent, ROW_OPTIONS["adam"]
    train(small_config(folder, **SETTINGS, **options, max_steps=10))
    saved = Path(checkpoint.checkpoint_uri(str(folder / "model"), 10))
    (file,) = (saved / "embedding").iterdir()
    tensors = read_tensors(str(file))
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "rows": (320, 4),
        "first_moment": (320, 4),
        "second_moment": (320, 4),
    }
    file.unlink()
    for rank in range(2):
        parts = {name: tensor[rank::2].clone() for name, tensor in tensors.items()}
        write_shard(str(saved), parts.pop("rows"), rank, 2, parts)
    state = json.loads((saved / "state.json").read_text())
    rewrite(saved / "state.json", json.dumps({**state, "num_shards": 2}))
    train(small_config(folder, **SETTINGS, **options))
    ours, theirs = parameters(folder / "model"), parameters(optimized("adam"))
    assert {name: value.tobytes() for name, value in ours.items()} == {
        name: value.tobytes() for name, value in theirs.items()
    }


@pytest.mark.slow
def test_a_checkpoint_holds_as_much_as_its_optimizer_keeps(new_run: NewRun) -> None:
    folder = new_run().parent
    found = {}
    for optimizer in ROW_OPTIONS:
        settings = {**SETTINGS, "embedding_optimizer": optimizer, "max_steps": 1, "resume": False}
        train(small_config(folder, **settings))
        (file,) = (folder / "model" / "checkpoints" / "step-00000001" / "embedding").iterdir()
        found[optimizer] = {name: tensor.numel() for name, tensor in read_tensors(str(file)).items()}
    assert found == {
        "rowwise_adagrad": {"rows": 1280, "accumulator": 320},
        "adam": {"rows": 1280, "first_moment": 1280, "second_moment": 1280},
        "sgd": {"rows": 1280},
    }


def test_a_run_of_another_row_optimizer_is_refused_naming_both(new_run: NewRun) -> None:
    folder = new_run().parent
    train(small_config(folder, **SETTINGS, max_steps=5))
    told = (
        r"is of another run: train\.embedding_optimizer was rowwise_adagrad, is adam: set train\.resume=false"
    )
    with pytest.raises(ConfigError, match=told):
        train(small_config(folder, **SETTINGS, embedding_optimizer="adam"))


@pytest.mark.slow
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
        ({"embedding_optimizer": "adamw"}, r"train\.embedding_optimizer"),
        ({"embedding_l2": -1e-5}, r"train\.embedding_l2"),
        ({"learning_rate": 0.5, "weight_decay": 2.0}, r"learning_rate x weight_decay = 1, the share"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config.model_validate(config_content(tmp_path, **settings))
