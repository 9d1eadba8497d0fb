"""What models are held against: rows and parameters in float64, trained by a formula in plain PyTorch.

A plain model knows neither groups nor log space: each impression has all its tokens, row-wise Adagrad is
three lines, and the network is a function of the pooled fields of an impression, written out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.feed.batch import TokenBatch
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import Esmm
from esmm_spark.model.objectives.weight_means import divide_by, moved_means, weight_sums

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
DIM, STEPS, BATCH = 4, 20, 48
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


def new_arena() -> EmbeddingArena:
    optimizer = RowOptimizer(ROW_RATE, ROW_EPS)
    return EmbeddingArena(SPEC.num_rows, DIM, optimizer=optimizer, init_range=0.5, seed=1)


# Pooled fields [N, F * D] and parameters by name -> logits [H, N].
Network = Callable[[Tensor, dict[str, Tensor]], Tensor]


class PlainModel:
    """Embedding rows and parameters as float64 tensors, which begin as those of `esmm` and `arena`.

    Args:
        esmm: whose parameters it begins with.
        arena: whose rows it begins with.
        network: the logits.
        loss_of: labels [K of N], then probabilities [H of N] -> losses [N].
    """

    def __init__(
        self, esmm: Esmm, arena: EmbeddingArena, network: Network, loss_of: Callable[..., Tensor]
    ) -> None:
        self.rows = arena.local_rows().double().clone()
        self.row_state = torch.zeros(len(self.rows), dtype=torch.float64)
        self.parameters = {
            name: value.detach().double().clone().requires_grad_() for name, value in esmm.named_parameters()
        }
        self.network, self.loss_of = network, loss_of

    def step(self, tokens: LabelledTokens) -> float:
        """Trains a batch and returns its mean loss."""
        rows = self.rows.clone().requires_grad_()
        fields = torch.stack([torch.cat(own) for own in self._impressions(tokens, rows)])
        p = torch.sigmoid(self.network(fields, self.parameters))
        loss = self.loss_of(*tokens.labels.double(), *p).mean()
        parameters = list(self.parameters.values())
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


def assert_twenty_steps_are_alike(model: Esmm, arena: EmbeddingArena, plain: PlainModel) -> None:
    """Trains both and compares losses, rows and all parameters."""
    sgd = torch.optim.SGD(model.parameters(), lr=RATE)
    losses, expected, means = [], [], list[float]()
    for step in range(STEPS):
        tokens = batch(step)
        inputs = embed_batch(arena, tokens, SPEC)
        count = tokens.labels.shape[1]
        loss = model.training_loss(inputs, tokens.labels, 1 / count)
        means = moved_means(means, weight_sums(model.spec), count, step + 1)
        divide_by(model.spec, means)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
        expected.append(plain.step(tokens))
    assert losses == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < expected[0]
    torch.testing.assert_close(arena.local_rows().double(), plain.rows, rtol=1e-4, atol=2e-5)
    for name, parameter in model.named_parameters():
        own = plain.parameters[name].detach()
        torch.testing.assert_close(parameter.detach().double(), own, rtol=1e-4, atol=2e-5, msg=name)


def bce(label: Tensor, p: Tensor) -> Tensor:
    return -(label * torch.log(p) + (1 - label) * torch.log(1 - p))


def esmm(click: Tensor, conversion: Tensor, pctr: Tensor, pcvr: Tensor) -> Tensor:
    """Ma et al. 2018, equation 3."""
    return bce(click, pctr) + bce(click * conversion, pctr * pcvr)
