"""MMoE, PLE and AITM against the papers' formulas: expert by expert and gate by gate, on flat impressions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.losses import Term
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.esmm import Esmm, build_esmm
from esmm_spark.model.networks.registry import build_network
from tests.model.plain_model import (
    DIM,
    SPEC,
    PlainModel,
    assert_twenty_steps_are_alike,
    batch,
    bce,
    esmm,
    new_arena,
)

Parameters = dict[str, Tensor]
HEADS = 2
# What each network is built with: no two sizes alike.
OPTIONS: dict[str, dict[str, Any]] = {
    "mmoe": {"num_experts": 3, "expert_units": [7, 5], "tower_units": [6]},
    "ple": {"num_experts": [2, 3], "expert_units": [[7, 5], [6]], "tower_units": []},
    "aitm": {"tower_units": [7, 5]},
}


def _activated(x: Tensor, slopes: Tensor | None) -> Tensor:
    return torch.where(x > 0, x, 0.0 if slopes is None else slopes * x)


def _perceptron(x: Tensor, own: Parameters, prefix: str, number: int) -> Tensor:
    """The layers below `prefix` of perceptron `number` of several."""
    layer = 0
    while f"{prefix}.{layer}.weight" in own:
        x = x @ own[f"{prefix}.{layer}.weight"][number].T
        x = x + own[f"{prefix}.{layer}.bias"][number]
        slopes = own.get(f"{prefix}.{layer}.slopes")
        x = _activated(x, None if slopes is None else slopes[number])
        layer += 1
    return x


def first_perceptrons(x: Tensor, own: Parameters, prefix: str, count: int) -> list[Tensor]:
    """Perceptrons over the flat fields, whose first layers lie one below the other."""
    weights = own[f"{prefix}.first.flat.weight"].chunk(count)
    biases = own[f"{prefix}.first.flat.bias"].chunk(count)
    found = []
    for number in range(count):
        slopes = own.get(f"{prefix}.slopes")
        hidden = _activated(
            x @ weights[number].T + biases[number], None if slopes is None else slopes[number]
        )
        found.append(_perceptron(hidden, own, f"{prefix}.rest", number))
    return found


def tower(x: Tensor, own: Parameters, head: int) -> Tensor:
    x = _perceptron(x, own, "towers.hidden", head)
    return (x @ own["towers.last.weight"][head].T + own["towers.last.bias"][head])[:, 0]


def mixed(weights: Tensor, experts: list[Tensor]) -> Tensor:
    gate = torch.exp(weights) / torch.exp(weights).sum(1, keepdim=True)
    return sum((gate[:, [e]] * expert for e, expert in enumerate(experts)), torch.zeros(()))


def mmoe(x: Tensor, own: Parameters) -> Tensor:
    """Ma et al. 2018, equations 5 to 7."""
    experts = first_perceptrons(x, own, "experts", 3)
    gates = own["gates.flat.weight"].chunk(HEADS)
    return torch.stack([tower(mixed(x @ gates[h].T, experts), own, h) for h in range(HEADS)])


def ple(x: Tensor, own: Parameters) -> Tensor:
    """Tang et al. 2020, equations 1 to 7, two layers."""
    task, shared = 2, 3
    found = first_perceptrons(x, own, "experts", HEADS * task + shared)
    first = own["gates.flat.weight"].split([task + shared] * HEADS + [HEADS * task + shared])

    def selected(experts: list[Tensor], head: int) -> list[Tensor]:
        return experts[head * task : (head + 1) * task] + experts[HEADS * task :]

    heads = [mixed(x @ first[h].T, selected(found, h)) for h in range(HEADS)]
    both = mixed(x @ first[HEADS].T, found)

    sources = [heads[0], heads[0], heads[1], heads[1], both, both, both]
    experts = [_perceptron(s, own, "extractions.0.experts", e) for e, s in enumerate(sources)]
    gates = own["extractions.0.gates.weight"]
    last = [mixed(heads[h] @ gates[h].T, selected(experts, h)) for h in range(HEADS)]
    return torch.stack([tower(last[h], own, h) for h in range(HEADS)])


def aitm(x: Tensor, own: Parameters) -> Tensor:
    """Xi et al. 2021, section 3.3."""
    z, q = first_perceptrons(x, own, "towers", HEADS)
    p = _activated(
        z @ own["transfers.0.transferred.weight"][0].T + own["transfers.0.transferred.bias"][0],
        own["transfers.0.transferred.slopes"][0] if "transfers.0.transferred.slopes" in own else None,
    )
    h1, h2, h3 = own["transfers.0.attention.weight"].chunk(3)
    score_p = ((p @ h2.T) * (p @ h3.T)).sum(1) / 5**0.5
    score_q = ((q @ h2.T) * (q @ h3.T)).sum(1) / 5**0.5
    of_p = (torch.exp(score_p) / (torch.exp(score_p) + torch.exp(score_q)))[:, None]
    transferred = of_p * (p @ h1.T) + (1 - of_p) * (q @ h1.T)
    return torch.stack(
        [
            (knows @ own["last.weight"][h].T + own["last.bias"][h])[:, 0]
            for h, knows in enumerate((z, transferred))
        ]
    )


def build(network: str, activation: str = "prelu") -> Esmm:
    torch.manual_seed(5)
    settings = Model.model_validate(
        {"network": network, "network_options": OPTIONS[network], "dim": DIM, "activation": activation}
    )
    return build_esmm(settings, SPEC, resolve(settings, [], DEFAULT_TASKS))


@pytest.mark.parametrize("activation", ["prelu", "relu"])
@pytest.mark.parametrize("formula", [mmoe, ple, aitm])
@pytest.mark.slow
def test_twenty_steps_are_those_of_the_papers_formula(
    formula: Callable[[Tensor, Parameters], Tensor], activation: str
) -> None:
    model, arena = build(formula.__name__, activation), new_arena()

    def network(fields: Tensor, parameters: Parameters) -> Tensor:
        return formula(fields, {name.removeprefix("towers.0."): own for name, own in parameters.items()})

    assert any("slopes" in name for name, _ in model.named_parameters()) == (activation == "prelu")
    assert_twenty_steps_are_alike(model, arena, PlainModel(model, arena, network, esmm))


def aitm_loss(click: Tensor, conversion: Tensor, y_1: Tensor, y_2: Tensor) -> Tensor:
    """Xi et al. 2021: both cross entropies in the entire space, and alpha max(y_2 - y_1, 0), alpha 0.6."""
    return bce(click, y_1) + bce(conversion, y_2) + 0.6 * (y_2 - y_1).clamp(min=0)


def test_aitm_with_root_tasks_and_not_above_is_the_papers() -> None:
    torch.manual_seed(5)
    tasks = Tasks.model_validate({"click": {}, "conversion": {}})
    terms = [Term(task="click"), Term(task="conversion")]
    limit = Term(task="conversion", not_above="click", weight=0.6)
    settings = Model(network="aitm", network_options=OPTIONS["aitm"], dim=DIM, objective="terms")
    model, arena = build_esmm(settings, SPEC, resolve(settings, [*terms, limit], tasks)), new_arena()
    with torch.no_grad():
        # So that conversions are above clicks at first, and some of them stay there.
        model.towers[0].get_parameter("last.bias")[1] += 1.5

    def network(fields: Tensor, parameters: Parameters) -> Tensor:
        return aitm(fields, {name.removeprefix("towers.0."): own for name, own in parameters.items()})

    assert_twenty_steps_are_alike(model, arena, PlainModel(model, arena, network, aitm_loss))


@pytest.mark.parametrize("network", ["mmoe", "ple", "aitm"])
def test_every_parameter_has_a_gradient(network: str) -> None:
    model, arena, tokens = build(network), new_arena(), batch(0)
    inputs = embed_batch(arena, tokens, SPEC)
    model.training_loss(inputs, tokens.labels, 1.0).backward()
    unused = [name for name, own in model.named_parameters() if own.grad is None or not own.grad.any()]
    assert unused == []


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("mmoe", {"num_experts": 0}, "num_experts = 0: network mmoe needs a whole number, at least 1"),
        ("mmoe", {"num_experts": True}, "num_experts = True: network mmoe needs"),
        ("mmoe", {"expert_units": []}, r"expert_units = \[\]: must be a list of one or more whole numbers"),
        ("mmoe", {"tower_units": [-1]}, r"tower_units = \[-1\]: must be a list of whole numbers, each at"),
        ("mmoe", {"activation": "gelu"}, "activation = 'gelu': allowed are relu, prelu"),
        ("mmoe", {"layers": 2}, r"mmoe does not take .*layers=2\).*num_experts: int = 4"),
        ("ple", {"num_experts": 2}, "num_experts = 2: network ple needs two whole numbers, each at least 1"),
        ("ple", {"num_experts": [1, 0]}, r"num_experts = \[1, 0\]: network ple needs two whole numbers"),
        ("ple", {"expert_units": [64]}, "expert_units of a layer = 64: must be a list of one or more"),
        ("ple", {"expert_units": []}, r"expert_units = \[\]: network ple needs a list of widths for each"),
        ("aitm", {"tower_units": []}, r"tower_units = \[\]: must be a list of one or more whole numbers"),
    ],
)
def test_wrong_options_are_told_in_one_line(network: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_network(network, 3, 2, DIM, num_heads=2, **options)
    assert "\n" not in str(caught.value)


def test_what_millions_of_experts_would_take_is_worked_out_without_a_view_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def draw(weight: Tensor, **options: Any) -> Tensor:
        calls.append(weight.numel())
        assert len(calls) < 100
        return weight

    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", draw)
    with torch.device("meta"):
        network = build_network("ple", 3, 2, DIM, num_heads=2, num_experts=[10**6, 10**6])
    assert sum(own.numel() for own in network.parameters()) > 3 * 10**6 * 128 * 128
