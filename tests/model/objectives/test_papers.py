"""Presets against the papers' formulas: a model of its own in float64 and plain PyTorch, 20 steps of both.

Losses are made of probabilities, towers are matrix products.
"""

import pytest
import torch
from torch import Tensor

from esmm_spark.contracts.losses import PRESETS
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


class Dcmt:
    """Zhu et al. 2023: self-normalised inverse propensities in both spaces, lambda |1 - (r_hat + r_hat*)|.

    A batch's own sums are replaced by means over all batches before; the first one is not normalised.
    """

    __name__ = "dcmt"

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def __call__(
        self, click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor, counterfactual: Tensor
    ) -> Tensor:
        o_hat = pctr.detach()
        weights = [click / o_hat.clamp(min=0.1), (1 - click) / (1 - o_hat).clamp(min=0.1)]
        means = [sum(batches) / len(batches) for batches in zip(*self.seen, strict=True)] or [1.0, 1.0]
        self.seen.append([weight.mean().item() for weight in weights])
        factual = weights[0] * bce(conversion, pcvr) / means[0]
        other = weights[1] * bce(1 - conversion, counterfactual) / means[1]
        soft_constraint = (1 - (pcvr + counterfactual)).abs()
        of_cvr: Tensor = factual + other + 0.001 * soft_constraint
        return esmm(click, conversion, pctr, pcvr) + of_cvr


def esmm_ns(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor) -> Tensor:
    """Ma et al. 2018, section 3.1: ESMM's loss, nothing shared."""
    return esmm(click, conversion, pctr, pcvr)


def base(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor) -> Tensor:
    """Ma et al. 2018, section 3.1: a model of clicks, and one of conversions on clicked impressions."""
    return bce(click, pctr) + click * bce(conversion, pcvr)


def aman(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor) -> Tensor:
    """Ma et al. 2018, section 3.1, sampling rate 100%: unclicked impressions are negatives of conversion."""
    return bce(click, pctr) + bce(click * conversion, pcvr)


def oversampling(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor) -> Tensor:
    """Ma et al. 2018, section 3.1, rate 3: each positive example is copied to be there three times."""
    copies = torch.where(conversion > 0, 3.0, 1.0)
    return bce(click, pctr) + copies * click * bce(conversion, pcvr)


def multi_ipw(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor) -> Tensor:
    """Zhang et al. 2020: o delta / p_hat; UNBIAS of Ma et al. 2018 draws by the same weights."""
    return bce(click, pctr) + click * bce(conversion, pcvr) / pctr.detach().clamp(min=0.1)


def unbias(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor) -> Tensor:
    """Ma et al. 2018, section 3.1: rejection sampling with the inverse of pCTR, in expectation."""
    return multi_ipw(click, conversion, pctr, pcvr)


def division(click: Tensor, conversion: Tensor, pctr: Tensor, pctcvr: Tensor) -> Tensor:
    """Ma et al. 2018, section 3.1: pCTR and pCTCVR are trained one by one; pCVR is their quotient."""
    return bce(click, pctr) + bce(click * conversion, pctcvr)


def multi_dr(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor, imputing: Tensor) -> Tensor:
    """Zhang et al. 2020: delta_hat + o (delta - delta_hat) / p_hat, and o (delta - delta_hat)^2 / p_hat."""
    delta, delta_hat = bce(conversion, pcvr), -torch.log(1 - imputing)
    inverse = click / pctr.detach().clamp(min=0.1)
    return bce(click, pctr) + delta_hat + inverse * ((delta - delta_hat) + (delta - delta_hat) ** 2)


FORMULAS = {
    formula.__name__: formula
    for formula in (
        *(esmm, esmm_ns, base, aman, oversampling, unbias, division),
        *(multi_ipw, multi_dr, escm2_ips, escm2_dr, Dcmt()),
    )
}


def test_every_preset_has_its_papers_formula() -> None:
    assert FORMULAS.keys() == PRESETS.keys()


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize("preset", FORMULAS)
@pytest.mark.slow
def test_twenty_steps_are_those_of_the_papers_formula(
    preset: str, is_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(8)
    formula = Dcmt() if preset == "dcmt" else FORMULAS[preset]
    # The plain model has one embedding; whether there are several is no matter of the formula.
    settings = Model(objective=preset, dim=DIM, hidden_units=HIDDEN, embedding="shared")
    model = build_esmm(settings, SPEC, resolve(settings, [], DEFAULT_TASKS))
    if not is_fused:
        monkeypatch.setattr(Esmm, "why_not_fused", lambda *_: "the test asks for torch's path")
    assert (model.why_not_fused(torch.zeros(1)) is None) == is_fused
    arena = new_arena()
    assert_twenty_steps_are_alike(model, arena, PlainModel(model, arena, towers, formula))
