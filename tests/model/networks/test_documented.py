"""The network of a user's own in docs/networks.md: shared experts, gates over the context alone."""

import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.esmm import Esmm, build_esmm
from tests.model.networks.test_experts import first_perceptrons, mixed, tower
from tests.model.plain_model import (
    DIM,
    SPEC,
    PlainModel,
    assert_twenty_steps_are_alike,
    esmm,
    new_arena,
)
from tests.repository import ROOT

CONTEXT = len(SPEC.context_fields) * DIM


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Esmm:
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    _, code = text.split("\n\n    from torch import nn\n")
    code = code[: code.index("\n\nN is at least 1")]
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
