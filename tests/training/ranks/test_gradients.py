"""The sum of the dense part's gradients, without processes of other ranks."""

import pytest
import torch
from torch import nn

from esmm_spark.training.optimization.dense import step_clipped
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.ranks.gradients import GradientSum
from tests.training.ranks.fake_collectives import Mirror


def shared_linear(mirror: Mirror) -> tuple[nn.Linear, GradientSum]:
    linear = nn.Linear(2, 1)
    nn.init.zeros_(linear.weight)
    return linear, GradientSum(linear, Cluster(0, 2, 0, 2, mirror))


@pytest.mark.parametrize("matched_by_name", [True, False])
def test_gradients_are_summed_before_their_norm_is_taken(matched_by_name: bool) -> None:
    # The sum over two ranks turns (3, 4) into (6, 8), of norm 10.
    linear, gradients = shared_linear(Mirror(matched_by_name))
    linear.bias.requires_grad_(False)
    optimizer = torch.optim.SGD(linear.parameters(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        linear(torch.tensor([3.0, 4.0])).sum().backward()
        gradients.finish()
        step_clipped(optimizer, 5.0)
    torch.testing.assert_close(linear.weight.detach(), torch.tensor([[-6.0, -8.0]]))


def test_sums_matched_by_name_start_as_soon_as_their_gradients_are_there() -> None:
    mirror = Mirror(matched_by_name=True)
    linear, gradients = shared_linear(mirror)
    linear(torch.ones(2)).sum().backward()
    assert sorted(mirror.started) == ["gradient.bias", "gradient.weight"]
    gradients.finish()
    assert len(mirror.started) == 2


@pytest.mark.parametrize("matched_by_name", [True, False])
def test_a_rank_without_impressions_takes_part_with_zeros(matched_by_name: bool) -> None:
    mirror = Mirror(matched_by_name)
    linear, gradients = shared_linear(mirror)
    gradients.finish()
    assert mirror.started
    assert linear.weight.grad is not None
    assert linear.weight.grad.tolist() == [[0, 0]]
