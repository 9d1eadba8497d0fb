"""Learning rates by step against plain formulas and hand numbers."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.train_config import Train
from esmm_spark.training.optimization.schedule import learning_rate_factor, require_warm


def factors(num_steps: int, **settings: Any) -> list[float]:
    train = Train(**settings)
    return [learning_rate_factor(train, step, num_steps) for step in range(num_steps)]


def test_a_warm_up_rises_to_the_full_rate_before_a_line_falls() -> None:
    found = factors(6, warmup_steps=2, learning_rate_decay="linear")
    np.testing.assert_allclose(found, [1 / 2, 1, 1, 3 / 4, 1 / 2, 1 / 4], rtol=1e-15)


def test_without_settings_every_step_has_the_full_rate_to_the_bit() -> None:
    assert factors(5) == [1.0] * 5
    assert factors(5, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_line_without_a_warm_up_is_the_one_of_before() -> None:
    assert factors(7, learning_rate_decay="linear") == [1.0 - step / 7 for step in range(7)]


def test_a_cosine_is_torchs_annealing() -> None:
    warm, num_steps = 3, 11
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps - warm)
    expected = [1 / 3, 2 / 3, 1.0]
    for _ in range(num_steps - warm):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        annealing.step()
    found = factors(num_steps, warmup_steps=warm, learning_rate_decay="cosine")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[7] == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


def test_a_run_that_ends_before_it_is_warm_is_refused() -> None:
    train = Train(warmup_steps=8, epochs=2, batch_size=100)
    require_warm(train, 401)
    with pytest.raises(ConfigError, match=r"warmup_steps = 8 >= the run's 8 steps \(train\.epochs = 2"):
        require_warm(train, 400)
    require_warm(Train(), 0)
