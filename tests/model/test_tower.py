"""The compiled perceptron against the same layers in plain torch, in float64: logits and all gradients."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from esmm_spark.model import tower
from esmm_spark.model.networks import Mlp
from esmm_spark.model.tower_kernels import CHUNK

CONTEXT, IMPRESSION, DIM = 3, 2, 7  # no multiple of a vector's width


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def mlp(hidden_units: tuple[int, ...], activation: str) -> Mlp:
    network = Mlp(CONTEXT, IMPRESSION, DIM, hidden_units, activation)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            # Biases that are not 0; slopes of both signs and 0.
            if parameter.dim() == 1:
                parameter.copy_(torch.linspace(-0.5, 1.5, len(parameter)) + 0.1 * ("bias" in name))
    return network


def inputs(sizes: list[int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(sizes))
    index = torch.repeat_interleave(torch.tensor(sizes, dtype=torch.int64))
    context = torch.randn(len(sizes), CONTEXT, DIM, generator=generator)
    impression = torch.randn(len(index), IMPRESSION, DIM, generator=generator)
    return context.to(dtype).requires_grad_(), impression.to(dtype).requires_grad_(), index


def gradients(network: Mlp, context: Tensor, impression: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    """Returns the logits and the gradients of a weighed sum of them."""
    logits = network(context, impression, index)
    weights = torch.cos(torch.arange(len(logits), dtype=logits.dtype))
    leaves = (context, impression, *network.parameters())
    return (logits.detach(), *torch.autograd.grad((logits * weights).sum(), leaves))


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [0],
        [1],
        [5, 0, 1, 200],
        [1] * (CHUNK + 1),
        [CHUNK] * 3,
        [3, 2 * CHUNK],  # the second group's end is all that a stretch holds
        [3, 5 * CHUNK, 0, 40],  # a group over three stretches, two of them its own
        [2 * CHUNK, 2 * CHUNK],
    ],
)
@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("hidden_units", [(6,), (11, 5), (4, 9, 3)])
def test_logits_and_gradients_are_those_of_float64(
    sizes: list[int], activation: str, hidden_units: tuple[int, ...], threads: int
) -> None:
    torch.manual_seed(4)
    network = mlp(hidden_units, activation)
    assert tower.is_compiled(torch.zeros(1), [], list(network.rest)[0:-1:2])
    found = gradients(network, *inputs(sizes))
    expected = gradients(network.double(), *inputs(sizes, torch.float64))
    for mine, theirs in zip(found, expected, strict=True):
        scale = float(theirs.abs().max()) if theirs.numel() else 1.0
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=2e-5 * max(scale, 1.0))


def test_without_impression_features_the_context_s_share_is_all() -> None:
    torch.manual_seed(7)
    network, index = Mlp(CONTEXT, 0, DIM, (6, 3), "relu"), torch.tensor([0, 0, 1])
    context, none = (
        torch.randn(2, CONTEXT, DIM, requires_grad=True),
        torch.zeros(3, 0, DIM, requires_grad=True),
    )
    found = gradients(network, context, none, index)
    double = context.detach().double().requires_grad_(), none.detach().double().requires_grad_()
    for mine, theirs in zip(found, gradients(network.double(), *double, index), strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-5)


def test_large_layers_take_plain_torch() -> None:
    activations, layer = [torch.nn.ReLU()], torch.nn.Linear(1024, 1024, bias=False)
    assert tower.is_compiled(torch.zeros(1), [layer], activations)
    assert not tower.is_compiled(torch.zeros(1), [layer, torch.nn.Linear(1, 1)], activations)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(5)
    network, before, found = mlp((20, 10), "prelu"), torch.get_num_threads(), []
    for count in (1, 2, 7):
        torch.set_num_threads(count)
        found.append(gradients(network, *inputs([100, 3, 3000, 47, 900])))
    torch.set_num_threads(before)
    assert all(
        torch.equal(one, other) for more in found[1:] for one, other in zip(found[0], more, strict=True)
    )


@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_a_nan_stays_a_nan_so_that_the_loss_tells(activation: str) -> None:
    context, impression, index = inputs([3, 2])
    with torch.no_grad():
        impression[1, 0, 0] = torch.nan
    logits = mlp((6, 3), activation)(context, impression, index)
    assert logits.isnan().tolist() == [False, True, False, False, False]


def test_scoring_half_precision_and_networks_of_float64_take_plain_torch() -> None:
    activations = list(mlp((6, 3), "prelu").rest)[0:-1:2]
    x = torch.zeros(1)
    with torch.no_grad():
        assert not tower.is_compiled(x, [], activations)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not tower.is_compiled(x, [], activations)
    assert not tower.is_compiled(x.double(), [], activations)
    assert not tower.is_compiled(x, [], [])
    assert not tower.is_compiled(x, [], [torch.nn.Tanh()])


def test_without_torch_s_blas_the_same_network_is_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(6)
    network, given = mlp((6, 3), "prelu"), inputs([4, 2])
    compiled = gradients(network, *given)
    monkeypatch.setattr(tower, "sgemm_address", lambda: None)
    for mine, theirs in zip(compiled, gradients(network, *given), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
