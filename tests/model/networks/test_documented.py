"""The networks of a user's own in docs/networks.md: shared experts, and an un-pooled history."""

import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.esmm import Esmm, build_esmm
from tests.model.networks.test_experts import first_perceptrons, mixed, tower
from tests.model.plain_model import (
    DIM,
    SPEC,
    PlainModel,
    assert_twenty_steps_are_alike,
    batch,
    esmm,
    new_arena,
)
from tests.repository import ROOT

CONTEXT = len(SPEC.context_fields) * DIM


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Esmm:
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    _, code = text.split("\n\n    from torch import nn\n")
    code = code[: code.index("\n\nA class whose")]
    (tmp_path / "documented.py").write_text("from torch import nn\n" + textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "documented", raising=False)
    torch.manual_seed(3)
    settings = Model.model_validate(
        {"network": "documented:ContextGates", "dim": DIM, "network_options": {"num_experts": 3}}
    )
    return build_esmm(settings, SPEC, resolve(settings, [], DEFAULT_TASKS))


def formula(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    own = {name.removeprefix("towers.0."): value for name, value in parameters.items()}
    experts = first_perceptrons(x, own, "experts", 3)
    weights, biases = own["gates.weight"].chunk(2), own["gates.bias"].chunk(2)
    gates = [x[:, :CONTEXT] @ weights[head].T + biases[head] for head in range(2)]
    return torch.stack([tower(mixed(gates[head], experts), own, head) for head in range(2)])


def test_the_documented_network_trains_as_its_formula_says(model: Esmm) -> None:
    arena = new_arena()
    assert_twenty_steps_are_alike(model, arena, PlainModel(model, arena, formula, esmm))


def test_the_documented_network_with_a_history_trains_as_its_formula_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    code = text[text.index("    import torch\n") : text.index("\n\nIn training on the CPU")]
    (tmp_path / "with_history.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    content = SPEC.model_dump()
    content["fields"][0] |= {"pooling": "none", "max_length": 3}
    spec = FeatureSpec.model_validate(content)
    settings = Model.model_validate(
        {"network": "with_history:LastClick", "dim": DIM, "network_options": {"target": "item"}}
    )
    torch.manual_seed(4)
    network = build_esmm(settings, spec, resolve(settings, [], DEFAULT_TASKS))
    arena, tokens = new_arena(), batch(0)
    rows = arena.local_rows().clone().requires_grad_()
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    logits = network(*embed_batch(arena, tokens, spec))

    # One impression after the other, with its own copy of its context.
    histories: list[Tensor] = []
    others: list[Tensor] = []
    own: list[Tensor] = []
    expected = []
    weighted = rows[tokens.context_rows.long()] * tokens.context_weights[:, None]
    bags = iter(weighted.split(tokens.context_lengths.tolist()))
    items = iter(rows[tokens.impression_rows.long()])
    for size in tokens.group_sizes.tolist():
        history, user = next(bags), next(bags).sum(0)
        histories += [history] * size
        others += [user] * size
        own += [next(items) for _ in range(size)]
    unit = {name.removeprefix("towers.0.attention."): value for name, value in parameters.items()}
    for history, user, item in zip(histories, others, own, strict=True):
        newest, attended = torch.zeros(DIM), torch.zeros(DIM)
        if len(history):
            query = item.expand_as(history)
            pairs = torch.cat([history, query, history - query, history * query], dim=1)
            hidden = F.prelu(pairs @ unit["first.weight"].T + unit["first.bias"], unit["rest.0.weight"])
            scores = hidden @ unit["rest.1.weight"].T + unit["rest.1.bias"]
            newest, attended = history[0], (scores * history).sum(0)
        x = torch.cat([user, newest, item, attended])[None]
        expected.append(torch.cat([_tower(x, parameters, f"towers.0.towers.{head}.") for head in range(2)]))
    torch.testing.assert_close(logits, torch.stack(expected, dim=1), rtol=1e-5, atol=1e-6)

    before = arena.local_rows().clone()
    (expected_gradient,) = torch.autograd.grad(torch.stack(expected).square().sum(), rows)
    logits.square().sum().backward()
    stepped = (arena.local_rows() != before).any(dim=1)
    assert torch.equal(stepped, (expected_gradient != 0).any(dim=1))


def _tower(x: Tensor, parameters: dict[str, Tensor], prefix: str) -> Tensor:
    own = {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
    hidden = F.prelu(x @ own["first.flat.weight"].T + own["first.flat.bias"], own["rest.0.weight"])
    return (hidden @ own["rest.1.weight"].T + own["rest.1.bias"])[0]
