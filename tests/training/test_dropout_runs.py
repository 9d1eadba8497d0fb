"""Whole runs with dropout, layer norm and all of training's options: resumed, and on two ranks."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from esmm_spark.contracts.config import Config
from esmm_spark.feed.plan import EpochPlan, RowGroup
from tests.synthetic_examples import config_content
from tests.training.conftest import SETTINGS, TrainWhole
from tests.training.runs import assert_same_model, assert_same_to_the_bit, run, stop_and_resume

NewRun = Callable[..., Path]
Whole = Callable[[str], Path]
# With seed 42 a unit of one impression stands 6e-6 above PReLU's kink in step 17, and two ranks' rounding
# takes it below: one rank with that unit's sign changed trains the two ranks' model to 2e-6.
TRAIN = {**SETTINGS, "weight_decay": 0.1, "gradient_clip_norm": 0.05, "warmup_steps": 6, "seed": 5}
NETWORKS = ["mlp", "mmoe"]
# Sums of float32 in another order, over 32 steps.
TOLERANCE = 2e-4


def content_of(folder: Path, network: str) -> dict[str, Any]:
    content = config_content(folder, **TRAIN, learning_rate_decay="cosine")
    content["model"] |= {"network": network, "network_options": {"dropout": 0.3, "layer_norm": True}}
    return content


@pytest.fixture(scope="module")
def whole(train_whole: TrainWhole) -> Whole:
    """Returns the models folder of a network's uninterrupted run on one rank."""
    return functools.cache(
        lambda network: train_whole(lambda folder: Config.model_validate(content_of(folder, network)))
    )


@pytest.mark.parametrize(("network", "step"), [("mlp", 3), ("mlp", 21), ("mmoe", 12)])
@pytest.mark.slow
def test_a_resumed_run_with_dropout_is_the_uninterrupted_one_to_the_bit(
    new_run: NewRun, whole: Whole, monkeypatch: pytest.MonkeyPatch, network: str, step: int
) -> None:
    folder = new_run().parent
    stop_and_resume(Config.model_validate(content_of(folder, network)), step, monkeypatch)
    assert_same_to_the_bit(folder / "model", whole(network))


@pytest.mark.horovod
@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_two_ranks_drop_out_what_one_does(new_run: NewRun, whole: Whole, network: str) -> None:
    config = new_run()
    config.write_text(yaml.safe_dump(content_of(config.parent, network), sort_keys=False))
    result = run(2, config)
    assert result.returncode == 0, result.stderr
    assert "because the network " in result.stdout + result.stderr
    assert_same_model(config.parent / "model", whole(network), TOLERANCE)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
def test_every_impression_of_a_step_has_its_place_on_one_rank(num_ranks: int) -> None:
    sizes = [50, 7, 0, 31, 18]
    row_groups = [RowGroup("a", index, 1, size, None) for index, size in enumerate(sizes)]
    plan = EpochPlan(row_groups, num_streams=4, batch_size=22, seed=1, epoch=0)
    for step in range(plan.num_steps):
        count = plan.impressions_in_step(step)
        shares = [plan.places(step, rank, num_ranks) for rank in range(num_ranks)]
        assert sorted(np.concatenate(shares).tolist()) == list(range(count))
        for rank, share in enumerate(shares):
            own = sum(plan.impressions_of_stream(step, s) for s in plan.streams_of_rank(rank, num_ranks))
            assert len(share) == own
