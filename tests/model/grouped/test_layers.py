"""The layers' compiled kernels against torch's operations in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from esmm_spark.model.grouped.layers import (
    batched_layer,
    cross_layer,
    grouped_layer,
    mix,
    prelu,
    why_not_compiled,
)

GROUPS, CONTEXT, IMPRESSION, UNITS, COUNT = 9, 5, 4, 6, 3


def group_index(sizes: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


# Groups without impressions, of one, and one larger than many blocks.
MANY = group_index([3, 0, 1, 40, 2, 0, 7, 1, 200])
FEW = group_index([0, 0, 1, 0, 1, 0, 0, 0, 0])


def new(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator).requires_grad_()


def assert_alike(function: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    """Compares the value and all gradients with those of the same function in float64, which torch makes."""
    exact = [value.detach().double().requires_grad_() for value in inputs]
    out, expected = function(*inputs), function(*exact)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
    assert why_not_compiled(inputs[0]) is None
    assert why_not_compiled(exact[0]) == "the input is torch.float64"
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    mine = torch.autograd.grad((out * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), exact)
    for own, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [MANY, FEW])
@pytest.mark.parametrize("has_slopes", [True, False])
def test_a_grouped_layer_is_the_flat_one(groups: Tensor, has_slopes: bool) -> None:
    weight, bias = new(COUNT * UNITS, CONTEXT + IMPRESSION), new(COUNT * UNITS)
    slopes = [new(COUNT, UNITS)] if has_slopes else []
    inputs = [new(GROUPS, CONTEXT), new(len(groups), IMPRESSION), weight, bias, *slopes]

    def layer(context: Tensor, impression: Tensor, w: Tensor, b: Tensor, *s: Tensor) -> Tensor:
        return grouped_layer((context, impression, groups), w, b, s[0] if s else None, COUNT)

    assert_alike(layer, inputs)
    context, impression, w, b, *s = (value.detach() for value in inputs)
    flat = torch.cat((context[groups], impression), 1) @ w.T + b
    for perceptron, own in enumerate(flat.chunk(COUNT, 1)):
        expected = torch.where(own > 0, own, s[0][perceptron] * own if s else 0.0)
        found = layer(context, impression, w, b, *s)[perceptron]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize("has_slopes", [True, False])
def test_a_batched_layer_is_each_of_them(count: int, has_slopes: bool) -> None:
    slopes = [new(COUNT, UNITS)] if has_slopes else []
    inputs = [new(COUNT, count, 4), new(COUNT, UNITS, 4), new(COUNT, UNITS), *slopes]
    assert_alike(lambda x, w, b, *s: batched_layer(x, w, b, s[0] if s else None), inputs)


def test_a_layer_takes_a_view() -> None:
    x = new(50, COUNT, 4)
    assert_alike(
        lambda v, w, b, s: batched_layer(v.transpose(0, 1), w, b, s),
        [x, new(COUNT, UNITS, 4), new(COUNT, UNITS), new(COUNT, UNITS)],
    )


@pytest.mark.parametrize("count", [1, 5, 100])
def test_a_mixture_is_the_weighted_sum_of_experts(count: int) -> None:
    gates, experts = new(count, 2, COUNT), new(COUNT, count, UNITS)
    with torch.no_grad():
        gates[:, 0, 1] = 0.0
    assert_alike(mix, [gates, experts])


def test_a_cross_layer_is_its_formula() -> None:
    assert_alike(cross_layer, [new(50, UNITS), new(50, UNITS, seed=1), new(50, UNITS, seed=2)])


def test_slopes_gradients_do_not_depend_on_the_number_of_threads() -> None:
    # MKL's own products do: here they are of one number each.
    x, weight, bias, slopes = new(COUNT, 999, 1), new(COUNT, UNITS, 1), new(COUNT, UNITS), new(COUNT, UNITS)

    def gradient(threads: int) -> bytes:
        torch.set_num_threads(threads)
        out = batched_layer(x, weight, bias, slopes)
        (found,) = torch.autograd.grad(out.square().sum(), [slopes])
        return found.numpy().tobytes()

    before = torch.get_num_threads()
    try:
        assert gradient(1) == gradient(2)
    finally:
        torch.set_num_threads(before)


def test_prelu_is_torch_s() -> None:
    assert_alike(prelu, [new(50, UNITS), new(UNITS)])
    x, slopes = new(50, UNITS), new(UNITS)
    torch.testing.assert_close(prelu(x, slopes), torch.nn.functional.prelu(x, slopes))
