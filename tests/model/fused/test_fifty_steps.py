"""ESMM with fused perceptrons over 50 steps, against float64 and on other numbers of threads."""

from dataclasses import fields
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.esmm import Esmm, build_esmm
from tests.model.plain_model import DIM, RATE, SPEC, LabelledTokens, PlainModel, batch, esmm, new_arena

STEPS, HIDDEN = 50, [6, 5]
needs_bfloat16 = pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16"), reason="this CPU has no instructions for bfloat16"
)


class Trained(NamedTuple):
    """What 50 steps give: the losses, the rows, and the parameters by name."""

    losses: list[float]
    rows: Tensor
    parameters: dict[str, Tensor]


def new_model(activation: str = "prelu") -> Esmm:
    torch.manual_seed(8)
    settings = Model.model_validate({"dim": DIM, "hidden_units": HIDDEN, "activation": activation})
    return build_esmm(settings, SPEC, resolve(settings, [], DEFAULT_TASKS))


def joined(batches: list[LabelledTokens]) -> LabelledTokens:
    """Returns one batch of the groups of all."""
    names = [field.name for field in fields(LabelledTokens)]
    return LabelledTokens(*(torch.cat([getattr(one, name) for one in batches], -1) for name in names))


def trained(threads: int = 1, bfloat16: bool = False, activation: str = "prelu", size: int = 1) -> Trained:
    """Trains 50 steps with SGD, and row-wise Adagrad for rows; a step has `size` batches."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    model, arena, losses = new_model(activation), new_arena(), []
    sgd = torch.optim.SGD(model.parameters(), lr=RATE)
    for step in range(STEPS):
        tokens = joined([batch(size * step + number) for number in range(size)])
        inputs = embed_batch(arena, tokens, SPEC)
        sgd.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            assert model.why_not_fused(inputs.impression) is None
            loss = model.training_loss(inputs, tokens.labels, 1 / tokens.labels.shape[1])
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    torch.set_num_threads(before)
    parameters = {name: own.detach().clone() for name, own in model.named_parameters()}
    return Trained(losses, arena.local_rows().clone(), parameters)


def plain(activation: str = "prelu") -> Trained:
    """Trains the same steps in float64 and plain PyTorch, each impression with its own tokens."""
    model = new_model(activation)
    network = PlainModel(model, new_arena(), perceptrons, esmm)
    losses = [network.step(batch(step)) for step in range(STEPS)]
    return Trained(losses, network.rows, {name: own.detach() for name, own in network.parameters.items()})


def perceptrons(pooled: Tensor, own: dict[str, Tensor]) -> Tensor:
    """Returns logits [2, N]: two flat perceptrons with PReLU, or ReLU where there are no slopes."""
    logits = []
    for head in (0, 1):
        x = pooled
        for layer, name in enumerate(("first.flat", "rest.1", "rest.3")):
            x = x @ own[f"towers.{head}.{name}.weight"].T + own[f"towers.{head}.{name}.bias"]
            if layer < 2:
                slopes = own.get(f"towers.{head}.rest.{2 * layer}.weight", torch.zeros(1).double())
                x = torch.where(x > 0, x, slopes * x)
        logits.append(x[:, 0])
    return torch.stack(logits)


@pytest.mark.parametrize("activation", ["prelu", "relu"])
def test_fifty_steps_are_those_of_float64_to_a_millionth(activation: str) -> None:
    found, expected = trained(activation=activation), plain(activation)
    assert found.losses == pytest.approx(expected.losses, rel=1e-6)
    assert expected.losses[-1] < 0.95 * expected.losses[0]
    torch.testing.assert_close(found.rows.double(), expected.rows, rtol=0, atol=1e-6)
    for name, own in found.parameters.items():
        torch.testing.assert_close(own.double(), expected.parameters[name], rtol=0, atol=1e-6, msg=name)


@needs_bfloat16
def test_fifty_steps_in_bfloat16_follow_those_of_float64() -> None:
    found, expected = trained(bfloat16=True), plain()
    assert found.losses == pytest.approx(expected.losses, rel=0.01)
    assert found.losses != pytest.approx(expected.losses, rel=1e-4)


@pytest.mark.parametrize("bfloat16", [False, pytest.param(True, marks=needs_bfloat16)])
@pytest.mark.slow
def test_fifty_steps_are_the_same_to_the_bit_on_any_number_of_threads(bfloat16: bool) -> None:
    one, two = (trained(threads, bfloat16, size=12) for threads in (1, 2))
    assert one.losses == two.losses
    assert torch.equal(one.rows, two.rows)
    assert all(torch.equal(own, two.parameters[name]) for name, own in one.parameters.items())
