"""The fused activation against the same layer in plain torch, values and all gradients."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from esmm_spark.model.activation import biased_activation, grouped_activation

WIDTH = 21  # no multiple of a vector's width


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def prelu() -> nn.PReLU:
    layer = nn.PReLU(WIDTH)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-0.5, 1.5, WIDTH))  # negative and zero slopes, too
    return layer


def gradients(out: Tensor, upper: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((out * upper).sum(), leaves)


@pytest.mark.parametrize("sizes", [[1], [5, 0, 1, 200], [1] * 70, [130], [64, 64], [0, 3]])
@pytest.mark.parametrize("activation", [prelu, nn.ReLU])
def test_groups_shares_are_added_and_all_gradients_are_torch_s(
    sizes: list[int], activation: type[nn.Module], threads: int
) -> None:
    torch.manual_seed(len(sizes))
    layer, index = activation(), torch.repeat_interleave(torch.tensor(sizes))
    own = torch.randn(len(index), WIDTH, requires_grad=True)
    shares = torch.randn(len(sizes), WIDTH, requires_grad=True)
    upper, leaves = torch.randn(len(index), WIDTH), (own, shares, *layer.parameters())

    expected = layer(own + shares[index])
    found = grouped_activation(own * 1, shares, index, layer)

    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(
        gradients(found, upper, *leaves), gradients(expected, upper, *leaves), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("num_rows", [0, 1, 63, 64, 65, 300])
@pytest.mark.parametrize("activation", [prelu, nn.ReLU])
def test_a_layer_with_bias_is_torch_s_layer(num_rows: int, activation: type[nn.Module], threads: int) -> None:
    torch.manual_seed(num_rows)
    layer, linear = activation(), nn.Linear(7, WIDTH)
    hidden = torch.randn(num_rows, 7, requires_grad=True)
    upper = torch.randn(num_rows, WIDTH)
    leaves = (hidden, *linear.parameters(), *layer.parameters())

    expected, found = layer(linear(hidden)), biased_activation(linear, hidden, layer)

    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(
        gradients(found, upper, *leaves), gradients(expected, upper, *leaves), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("activation", [prelu, nn.ReLU])
def test_a_nan_stays_a_nan_so_that_the_loss_tells(activation: type[nn.Module]) -> None:
    own, index = torch.full((3, WIDTH), torch.nan), torch.zeros(3, dtype=torch.int64)
    assert grouped_activation(own, torch.zeros(1, WIDTH), index, activation()).isnan().all()


def test_groups_sums_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    index = torch.repeat_interleave(torch.tensor([100, 3, 50, 47]))
    own, shares, upper = (
        torch.randn(200, WIDTH),
        torch.randn(4, WIDTH, requires_grad=True),
        torch.randn(200, WIDTH),
    )
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        out = grouped_activation(own.clone(), shares, index, prelu())
        found.append(gradients(out, upper, shares)[0])
    torch.set_num_threads(before)
    assert torch.equal(*found)
