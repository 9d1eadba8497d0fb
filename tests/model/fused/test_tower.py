"""The fused loss of two perceptrons against plain torch in float64: its value and all gradients."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esmm_spark.contracts.losses import PRESETS
from esmm_spark.contracts.objective import Objective, resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.contracts.train_config import Model
from esmm_spark.model import esmm
from esmm_spark.model.embedding.embedded import EmbeddedBatch
from esmm_spark.model.esmm import Esmm
from esmm_spark.model.fused import blas, perceptron, tower
from esmm_spark.model.fused.layout import CHUNK
from esmm_spark.model.networks.mlp import Mlp

CONTEXT, IMPRESSION, DIM = 3, 2, 7  # no multiple of a vector's width
SCALE = 0.25
SIZES = [
    [],
    [0],
    [1],
    [5, 0, 1, 200],
    [1] * (CHUNK + 1),
    [CHUNK] * 3,
    [3, 4 * CHUNK],  # in bfloat16 the second group's end is all that a block holds
    [3, 10 * CHUNK, 0, 41],  # a group over three blocks, two of them its own
    [4 * CHUNK, 4 * CHUNK],
]

needs_bfloat16 = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16"), reason="this CPU has no instructions for bfloat16"
)


# That others give the same bits is a test of its own.
@pytest.fixture(params=[1, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


FUNNEL = Tasks.model_validate(
    {"click": {}, "conversion": {"given": "click"}, "repurchase": {"given": "conversion"}}
)


def objective_of(name: str) -> Objective:
    """Returns a preset of the default tasks, or of one or three: `esmm 3`."""
    preset, _, number = name.partition(" ")
    tasks = {"1": Tasks.model_validate({"click": {}}), "3": FUNNEL}.get(number, DEFAULT_TASKS)
    return resolve(Model(objective=preset), [], tasks)


def model(
    hidden_units: tuple[int, ...],
    activations: Sequence[str] = ("prelu", "prelu"),
    objective: str = "esmm",
    num_fields: int = IMPRESSION,
) -> Esmm:
    torch.manual_seed(4)
    resolved = objective_of(objective)
    names = [activations[head % len(activations)] for head in range(len(resolved.heads))]
    towers = [Mlp(CONTEXT, num_fields, DIM, hidden_units, activation) for activation in names]
    for seed, network in enumerate(towers):
        for name, parameter in network.named_parameters():
            # Biases that are not 0; slopes of both signs and 0.
            if parameter.dim() == 1:
                values = torch.linspace(-0.5, 1.5 - 0.2 * seed, len(parameter)) + 0.1 * ("bias" in name)
                parameter.data.copy_(values)
    return Esmm(towers, resolved)


def inputs(sizes: list[int], objective: str = "esmm", num_fields: int = IMPRESSION) -> list[Tensor]:
    """Returns context, impression, group sizes and labels [K, N], of which some are unknown."""
    generator = torch.Generator().manual_seed(len(sizes))
    resolved = objective_of(objective)
    dim, count = DIM * resolved.num_embeddings, sum(sizes)
    happened = torch.rand(len(resolved.tasks.names), count, generator=generator) < 0.5
    labels = happened.cumprod(0).float()
    labels[1:, torch.rand(count, generator=generator) < 0.1] = -1.0
    return [
        torch.randn(len(sizes), CONTEXT, dim, generator=generator),
        torch.randn(count, num_fields, dim, generator=generator),
        torch.tensor(sizes, dtype=torch.int64),
        labels,
    ]


def gradients_of(loss: Tensor, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Returns the gradients, 0 of what has none: no impression reaches a network of plain torch."""
    if not loss.requires_grad:
        return tuple(map(torch.zeros_like, leaves))
    return torch.autograd.grad(loss, leaves, materialize_grads=True)


def results(network: Esmm, given: list[Tensor], dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Returns the loss and all gradients."""
    network.to(dtype)
    context, impression = (x.to(dtype).requires_grad_() for x in given[:2])
    loss = network.training_loss(EmbeddedBatch(context, impression, given[2]), given[3], SCALE)
    return (loss.detach(), *gradients_of(loss, (context, impression, *network.parameters())))


def plain_float64(network: Esmm, given: list[Tensor]) -> tuple[Tensor, ...]:
    network.double()
    context, impression = (x.double().requires_grad_() for x in given[:2])
    logits = network(context, impression, given[2])
    loss = SCALE * network.loss(logits, given[3]).sum()
    return (loss.detach(), *gradients_of(loss, (context, impression, *network.parameters())))


def assert_all_close(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        scale = float(theirs.abs().max()) if theirs.numel() else 1.0
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=2e-5 * max(scale, 1.0))


def layers_of(network: nn.Module) -> perceptron.Perceptron:
    assert isinstance(network, Mlp)
    return network.layers


def is_fused(network: Esmm, x: Tensor) -> bool:
    return network.why_not_fused(x) is None


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("objective", ["esmm", "base"])
@pytest.mark.parametrize("hidden_units", [(6,), (11, 5), (4, 9, 3)])
def test_loss_and_gradients_are_those_of_float64(
    sizes: list[int], objective: str, hidden_units: tuple[int, ...], threads: int
) -> None:
    network, given = model(hidden_units, ("prelu", "relu"), objective), inputs(sizes, objective)
    assert is_fused(network, given[1])
    assert_all_close(results(network, given), plain_float64(network, given))


@pytest.mark.parametrize(
    "objective",
    [*(name for name in PRESETS if name not in ("esmm", "base")), "esmm 1", "esmm 3", "escm2_dr 3", "base 3"],
)
def test_any_preset_and_number_of_towers_has_the_loss_and_gradients_of_float64(objective: str) -> None:
    sizes, hidden_units = [3, 2 * CHUNK, 0, 41], (11, 5)
    network, given = model(hidden_units, ("prelu", "relu"), objective), inputs(sizes, objective)
    assert is_fused(network, given[1])
    assert_all_close(results(network, given), plain_float64(network, given))


def test_without_impression_features_the_context_projection_is_all() -> None:
    network, given = model((6, 3), num_fields=0), inputs([2, 1], num_fields=0)
    assert_all_close(results(network, given), plain_float64(network, given))


def test_what_comes_after_the_loss_scales_its_gradients() -> None:
    network, given = model((6, 3)), inputs([2, 3])
    context = given[0].requires_grad_()
    loss = network.training_loss(EmbeddedBatch(context, given[1], given[2]), given[3], SCALE)
    once, thrice = (torch.autograd.grad(x, context, retain_graph=True)[0] for x in (loss, 3 * loss))
    torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("bfloat16", [False, pytest.param(True, marks=needs_bfloat16)])
def test_the_result_does_not_depend_on_the_number_of_threads(bfloat16: bool) -> None:
    before, found = torch.get_num_threads(), []
    network, given = model((20, 10)), inputs([100, 3, 3000, 47, 901])
    for count in (1, 2, 7):
        torch.set_num_threads(count)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            found.append(results(network, given))
    torch.set_num_threads(before)
    assert all(
        torch.equal(one, other) for more in found[1:] for one, other in zip(found[0], more, strict=True)
    )


@pytest.mark.parametrize(
    ("num_impressions", "expected"),
    [(0, (1, 1)), (1, (1, 1)), (257, (257, 129)), (5000, (500, 250)), (100_000, (3226, 249))],
)
def test_blocks_and_chunks_are_of_one_size(num_impressions: int, expected: tuple[int, int]) -> None:
    assert tower.block_and_chunk(num_impressions, bfloat16=False) == expected
    block, chunk = tower.block_and_chunk(num_impressions, bfloat16=True)
    assert chunk == CHUNK
    assert block % CHUNK == 0


@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("bfloat16", [False, pytest.param(True, marks=needs_bfloat16)])
def test_a_nan_stays_a_nan_so_that_the_loss_tells(activation: str, bfloat16: bool) -> None:
    network, given = model((6, 3), (activation, activation)), inputs([3, 2])
    given[1][1, 0, 0] = torch.nan
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        assert results(network, given)[0].isnan()


def test_large_layers_take_plain_torch() -> None:
    x, activations, last = torch.zeros(1), [nn.ReLU()], nn.Linear(1000, 1)
    largest, larger = nn.Linear(1000, 1000), nn.Linear(1048, 1000)
    assert perceptron.why_not_fused(x, [perceptron.Perceptron([largest, last], activations)]) is None
    reason = perceptron.why_not_fused(x, [perceptron.Perceptron([larger, last], activations)])
    assert reason == "a tower has more than 1048576 weights"


def test_no_gradients_float64_and_other_layers_take_plain_torch_and_say_why() -> None:
    layers, x = layers_of(model((6, 3)).towers[0]), torch.zeros(1)
    no_perceptron = "a tower is no perceptron with ReLU or PReLU"
    assert perceptron.why_not_fused(x, [layers, layers]) is None
    with torch.no_grad():
        assert perceptron.why_not_fused(x, [layers, layers]) == "no gradients are computed"
    with torch.autocast("cpu", dtype=torch.float16):
        assert "other than bfloat16" in str(perceptron.why_not_fused(x, [layers, layers]))
    assert perceptron.why_not_fused(x.double(), [layers, layers]) == "the input is torch.float64"
    other = layers._replace(activations=[nn.ReLU(), nn.Tanh()])
    assert perceptron.why_not_fused(x, [other] * 2) == no_perceptron
    narrower = layers_of(model((6, 4)).towers[0])
    assert perceptron.why_not_fused(x, [layers, narrower]) == "the towers' widths differ"
    assert perceptron.why_not_fused(x, [layers_of(model(()).towers[0])] * 2) == no_perceptron


def _no_addresses(*_: Any) -> None:
    return None


def test_without_torch_s_blas_the_same_model_is_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    network, given = model((6, 3)), inputs([4, 2])
    fused = results(network, given)
    monkeypatch.setattr(perceptron, "gemm_addresses", _no_addresses)
    monkeypatch.setattr(esmm, "fused_loss", None)
    for mine, theirs in zip(fused, results(network, given), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


class _RoundedLinear(torch.autograd.Function):
    """x W^T, and both gradients, of rounded matrices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = rounded(x), rounded(weight)
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, upper: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return rounded(upper) @ weight, rounded(upper).t() @ x


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().double()


def _rounded_linear(x: Tensor, weight: Tensor) -> Tensor:
    product: Tensor = _RoundedLinear.apply(x, weight)  # type: ignore[no-untyped-call]
    return product


class _Rounded(nn.Module):
    """A perceptron in float64 that rounds to bfloat16 what goes into a product, but for the last layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        assert isinstance(network, Mlp)
        self.network = network

    def forward(self, context: Tensor, impression: Tensor, index: Tensor) -> Tensor:
        (first, *others, last), activations = self.network.layers
        width = context.flatten(1).shape[1]
        shares = _rounded_linear(context.flatten(1), first.weight[:, :width]) + first.bias
        x = activations[0](shares[index] + _rounded_linear(impression.flatten(1), first.weight[:, width:]))
        for linear, activation in zip(others, activations[1:], strict=True):
            x = activation(_rounded_linear(x, linear.weight) + linear.bias)
        logits: Tensor = last(x).squeeze(1)
        return logits


@needs_bfloat16
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("objective", ["esmm", "base"])
@pytest.mark.parametrize("hidden_units", [(6,), (11, 5), (4, 9, 3)])
def test_in_bfloat16_they_are_those_of_rounded_products(
    sizes: list[int], objective: str, hidden_units: tuple[int, ...], threads: int
) -> None:
    network, given = model(hidden_units, ("prelu", "relu"), objective), inputs(sizes, objective)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert is_fused(network, given[1])
        found = results(network, given)
    oracle = Esmm([_Rounded(tower) for tower in network.towers], network.objective)
    for mine, theirs in zip(found, plain_float64(oracle, given), strict=True):
        # A hidden unit that float32 and float64 round to two neighbours, or on which they disagree whether it
        # is above 0, is a few in a thousand; without rounding it is ten times as far away.
        assert float((mine.double() - theirs).norm()) <= 5e-3 * float(theirs.norm())


@needs_bfloat16
def test_in_bfloat16_without_impression_features_the_context_projection_is_all() -> None:
    network, given = model((6, 3), num_fields=0), inputs([2, 1], num_fields=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results(network, given)
    for mine, theirs in zip(found, plain_float64(network, given), strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=0.05, atol=0.02)


def test_without_instructions_for_it_bfloat16_is_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    network, given = model((6, 3)), inputs([3, 2])
    exact = results(network, given)
    monkeypatch.setattr(blas, "_has_bfloat16", lambda: False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_fused(network, given[1])
        torch.testing.assert_close(results(network, given)[0], exact[0], rtol=0.05, atol=0.05)


@needs_bfloat16
@pytest.mark.filterwarnings("ignore:TF32")  # torch sets all flags of mkldnn to set one
def test_onednn_is_not_asked_for_what_it_was_told_not_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert blas.gemm_addresses(bfloat16=True) is not None
    with torch.backends.mkldnn.flags(enabled=False):
        assert blas.gemm_addresses(bfloat16=True) is None
    blas._has_bfloat16.cache_clear()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert blas.gemm_addresses(bfloat16=True) is None
    monkeypatch.undo()
    blas._has_bfloat16.cache_clear()


def test_large_batches_are_cut_into_larger_blocks(threads: int) -> None:
    network, given = model((4,), ("prelu", "relu")), inputs([5] * 4128 + [0, 300])
    assert_all_close(results(network, given), plain_float64(network, given))
