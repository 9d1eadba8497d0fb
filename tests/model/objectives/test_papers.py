"""Presets against the papers' formulas: a model of its own in float64 and plain PyTorch, 20 steps of both.

Losses are made of probabilities, towers are matrix products.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.esmm import Esmm, build_esmm
from tests.model.plain_model import (
    DIM,
    SPEC,
    PlainModel,
    assert_twenty_steps_are_alike,
    bce,
    esmm,
    new_arena,
)

HIDDEN = [7, 5]


def towers(fields: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    numbers = sorted({int(name.split(".")[1]) for name in parameters})
    return torch.stack([_tower(fields, parameters, f"towers.{number}.") for number in numbers])


def _tower(x: Tensor, parameters: dict[str, Tensor], prefix: str) -> Tensor:
    for linear, slopes in (("first.flat", "rest.0"), ("rest.1", "rest.2")):
        x = x @ parameters[f"{prefix}{linear}.weight"].T + parameters[f"{prefix}{linear}.bias"]
        x = torch.where(x > 0, x, parameters[f"{prefix}{slopes}.weight"] * x)
    return (x @ parameters[f"{prefix}rest.3.weight"].T + parameters[f"{prefix}rest.3.bias"])[:, 0]


def escm2_ips(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor) -> Tensor:
    """Wang et al. 2022: L_CTR + L_CTCVR + lambda o e / o_hat, e the CVR's cross entropy; lambda 0.1."""
    propensity = pctr.detach().clamp(min=0.1)
    return esmm(click, conversion, pctr, pcvr) + 0.1 * click * bce(conversion, pcvr) / propensity


def escm2_dr(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor, imputing: Tensor) -> Tensor:
    """Wang et al. 2022: e_hat + o (e - e_hat) / o_hat, and o (e - e_hat)^2 / o_hat for the imputation."""
    propensity = pctr.detach().clamp(min=0.1)
    error, imputed = bce(conversion, pcvr), torch.log(1 + imputing / (1 - imputing))  # log(1 + exp(logit))
    doubly_robust = imputed + click * (error - imputed) / propensity
    of_imputation = click * (error - imputed) ** 2 / propensity
    return esmm(click, conversion, pctr, pcvr) + 0.1 * (doubly_robust + of_imputation)


def dcmt(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor, counterfactual: Tensor) -> Tensor:
    """Zhu et al. 2023, both spaces by inverse propensities, and lambda |1 - (r_hat + r_hat*)|."""
    o_hat = pctr.detach()
    factual = click * bce(conversion, pcvr) / o_hat.clamp(min=0.1)
    other = (1 - click) * bce(1 - conversion, counterfactual) / (1 - o_hat).clamp(min=0.1)
    soft_constraint = (1 - (pcvr + counterfactual)).abs()
    return esmm(click, conversion, pctr, pcvr) + factual + other + 0.001 * soft_constraint


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize("formula", [esmm, escm2_ips, escm2_dr, dcmt])
def test_twenty_steps_are_those_of_the_papers_formula(
    formula: Callable[..., Tensor], is_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(8)
    settings = Model(objective=formula.__name__, dim=DIM, hidden_units=HIDDEN)
    model = build_esmm(settings, SPEC, resolve(settings, [], DEFAULT_TASKS))
    if not is_fused:
        monkeypatch.setattr(Esmm, "why_not_fused", lambda *_: "the test asks for torch's path")
    assert (model.why_not_fused(torch.zeros(1)) is None) == is_fused
    arena = new_arena()
    assert_twenty_steps_are_alike(model, arena, PlainModel(model, arena, towers, formula))
