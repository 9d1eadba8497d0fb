"""Presets against the papers' formulas: a model of its own in float64 and plain PyTorch, 20 steps of both.

The plain model knows neither groups nor heads nor log space: each impression has all its tokens, towers are
matrix products, losses are made of probabilities, row-wise Adagrad is three lines.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.feed.batch import TokenBatch
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.esmm import Esmm, build_esmm

SPEC = FeatureSpec.model_validate(
    {
        "tables": {"user": {"num_buckets": 12}, "item": {"num_buckets": 15}},
        "fields": [
            {"name": "viewed", "level": "context", "table": "item", "multi": True},
            {"name": "user", "level": "context"},
            {"name": "item", "level": "impression"},
        ],
    }
)
DIM, HIDDEN, STEPS, BATCH = 4, [7, 5], 20, 48
ROW_RATE, ROW_EPS, RATE = 0.05, 1e-8, 0.1


@dataclass(frozen=True)
class LabelledTokens(TokenBatch):
    labels: Tensor


def batch(seed: int) -> LabelledTokens:
    """Returns groups of 1 to 6 impressions, about BATCH in all; a third is clicked, half of those convert."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 7, (BATCH // 4,), generator=generator)
    groups, count = len(sizes), int(sizes.sum())
    lengths = torch.stack([torch.randint(0, 4, (groups,), generator=generator), torch.ones(groups)], 1).int()
    users, items = SPEC.offsets["user"], SPEC.offsets["item"]
    rows: list[int] = []
    for viewed in lengths[:, 0].tolist():
        rows += (items + torch.randint(0, 15, (viewed,), generator=generator)).tolist()
        rows += (users + torch.randint(0, 12, (1,), generator=generator)).tolist()
    own = (items + torch.randint(0, 15, (count,), generator=generator)).int()
    click = torch.rand(count, generator=generator) < 0.35
    return LabelledTokens(
        torch.tensor(rows, dtype=torch.int32),
        0.5 + torch.rand(len(rows), generator=generator),
        lengths.flatten(),
        own,
        torch.ones(count),
        torch.ones(count, dtype=torch.int32),
        sizes,
        torch.stack([click, click & (torch.rand(count, generator=generator) < 0.5)]).float(),
    )


class PlainModel:
    """Embedding rows and towers as float64 tensors, which begin as those of `esmm` and `arena`."""

    def __init__(self, esmm: Esmm, arena: EmbeddingArena) -> None:
        self.rows = arena.local_rows().double().clone()
        self.row_state = torch.zeros(len(self.rows), dtype=torch.float64)
        names = ("first.flat.weight", "first.flat.bias", "rest.0.weight", "rest.1.weight", "rest.1.bias")
        self.names = [*names, "rest.2.weight", "rest.3.weight", "rest.3.bias"]
        states = [tower.state_dict() for tower in esmm.towers]
        self.towers = [[state[name].double().clone() for name in self.names] for state in states]

    def step(self, tokens: LabelledTokens, loss_of: Callable[..., Tensor]) -> float:
        """Trains a batch and returns its mean loss."""
        rows = self.rows.clone().requires_grad_()
        towers = [[parameter.requires_grad_() for parameter in tower] for tower in self.towers]
        fields = torch.stack([torch.cat(own) for own in self._impressions(tokens, rows)])
        p = [torch.sigmoid(_tower(fields, tower)) for tower in towers]
        loss = loss_of(*tokens.labels.double(), *p).mean()
        parameters = [parameter for tower in towers for parameter in tower]
        of_rows, *gradients = torch.autograd.grad(loss, [rows, *parameters], materialize_grads=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= RATE * gradient
            self.row_state += of_rows.square().mean(1)
            self.rows = self.rows - ROW_RATE * of_rows / (self.row_state.sqrt() + ROW_EPS)[:, None]
        return loss.item()

    def _impressions(self, tokens: TokenBatch, rows: Tensor) -> list[list[Tensor]]:
        """Returns the pooled fields of each impression: viewed items, user, item."""
        found, at, own = [], 0, 0
        for group, size in enumerate(tokens.group_sizes.tolist()):
            context = []
            for length in tokens.context_lengths[2 * group : 2 * group + 2].tolist():
                weighted = (
                    tokens.context_weights[at : at + length, None]
                    * rows[tokens.context_rows[at : at + length].long()]
                )
                context.append(weighted.sum(0))
                at += length
            items = tokens.impression_rows[own : own + size].tolist()
            found += [[*context, rows[item]] for item in items]
            own += size
        return found


def _tower(x: Tensor, parameters: list[Tensor]) -> Tensor:
    first, first_bias, slopes, second, second_bias, more_slopes, last, last_bias = parameters
    x = x @ first.T + first_bias
    x = torch.where(x > 0, x, slopes * x)
    x = x @ second.T + second_bias
    x = torch.where(x > 0, x, more_slopes * x)
    return (x @ last.T + last_bias)[:, 0]


def bce(label: Tensor, p: Tensor) -> Tensor:
    return -(label * torch.log(p) + (1 - label) * torch.log(1 - p))


def esmm(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor) -> Tensor:
    """Ma et al. 2018, equation 3."""
    return bce(click, pctr) + bce(click * conversion, pctr * pcvr)


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
    arena = EmbeddingArena(SPEC.num_rows, DIM, learning_rate=ROW_RATE, eps=ROW_EPS, init_range=0.5, seed=1)
    plain, sgd = PlainModel(model, arena), torch.optim.SGD(model.parameters(), lr=RATE)
    if not is_fused:
        monkeypatch.setattr(Esmm, "why_not_fused", lambda *_: "the test asks for torch's path")
    losses, expected = [], []
    for step in range(STEPS):
        tokens = batch(step)
        pooled = embed_batch(arena, tokens, SPEC)
        if step == 0:
            assert (model.why_not_fused(pooled[1]) is None) == is_fused
        inputs = (*pooled, tokens.group_sizes)
        loss = model.training_loss(inputs, tokens.labels, 1 / tokens.labels.shape[1])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
        expected.append(plain.step(tokens, formula))
    assert losses == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < expected[0]
    torch.testing.assert_close(arena.local_rows().double(), plain.rows, rtol=1e-4, atol=2e-5)
    for tower, own in zip(model.towers, plain.towers, strict=True):
        state = tower.state_dict()
        for name, parameter in zip(plain.names, own, strict=True):
            torch.testing.assert_close(state[name].double(), parameter.detach(), rtol=1e-4, atol=2e-5)
