"""Numbers and vectors against what they stand for, in float64 and plain PyTorch: products and a look-up."""

from typing import NamedTuple

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
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import build_esmm
from tests.model.objectives.test_papers import HIDDEN, towers
from tests.model.plain_model import DIM, RATE, ROW_EPS, ROW_RATE, STEPS, LabelledTokens, PlainModel, esmm

SIZE, GROUPS = 6, 12
SPEC = FeatureSpec.model_validate(
    {
        "tables": {},
        "fields": [
            {"name": "text", "level": "context", "kind": "vector", "size": SIZE},
            {
                "name": "price",
                "level": "impression",
                "kind": "numeric",
                "buckets": [0.0, 1.0],
                "scaled": True,
            },
        ],
    }
)
TEXT, PRICE = (SPEC.offsets[name] + 1 for name in ("text", "price"))
MISSING, SCALED, FIRST = PRICE, PRICE + 1, PRICE + 2


class Numbers(NamedTuple):
    """What a batch stands for: vectors [G, SIZE], numbers [N], NaN where missing."""

    vectors: Tensor
    prices: Tensor


def batch(seed: int) -> tuple[LabelledTokens, Numbers]:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 7, (GROUPS,), generator=generator)
    count = int(sizes.sum())
    vectors = torch.randn(GROUPS, SIZE, generator=generator)
    prices = torch.randn(count, generator=generator)
    prices[torch.rand(count, generator=generator) < 0.2] = torch.nan
    rows: list[int] = []
    weights: list[float] = []
    for price in prices.tolist():
        is_missing = price != price
        rows += [MISSING] if is_missing else [SCALED, FIRST + int(price >= 0) + int(price >= 1)]
        weights += [1.0] if is_missing else [price, 1.0]
    click = torch.rand(count, generator=generator) < 0.35
    tokens = LabelledTokens(
        torch.arange(TEXT, TEXT + SIZE, dtype=torch.int32).repeat(GROUPS),
        vectors.flatten(),
        torch.full((GROUPS,), SIZE, dtype=torch.int32),
        torch.tensor(rows, dtype=torch.int32),
        torch.tensor(weights),
        torch.where(prices.isnan(), 1, 2).int(),
        sizes,
        torch.stack([click, click & (torch.rand(count, generator=generator) < 0.5)]).float(),
    )
    return tokens, Numbers(vectors.double(), prices.double())


class PlainNumbers(PlainModel):
    """The vector times a matrix, the number times a vector plus its bucket's: no tokens, no weights."""

    numbers: Numbers

    def _impressions(self, tokens: TokenBatch, rows: Tensor) -> list[list[Tensor]]:
        projected = self.numbers.vectors @ rows[TEXT : TEXT + SIZE]
        groups = torch.repeat_interleave(tokens.group_sizes)
        found = []
        for group, price in zip(groups.tolist(), self.numbers.prices, strict=True):
            if price.isnan():
                own = rows[MISSING]
            else:
                bucket = int(torch.bucketize(price, torch.tensor([0.0, 1.0]).double(), right=True))
                own = price * rows[SCALED] + rows[FIRST + bucket]
            found.append([projected[group], own])
        return found


def test_twenty_steps_are_those_of_a_dense_projection_and_a_scaled_vector() -> None:
    torch.manual_seed(3)
    objective = resolve(Model(hidden_units=HIDDEN), [], DEFAULT_TASKS)
    model = build_esmm(Model(dim=DIM, hidden_units=HIDDEN), SPEC, objective)
    optimizer = RowOptimizer(ROW_RATE, ROW_EPS)
    arena = EmbeddingArena(SPEC.num_rows, DIM, optimizer=optimizer, init_range=0.5, seed=1)
    plain = PlainNumbers(model, arena, towers, esmm)
    sgd = torch.optim.SGD(model.parameters(), lr=RATE)
    losses, expected = [], []
    for step in range(STEPS):
        tokens, plain.numbers = batch(step)
        loss = model.training_loss(
            embed_batch(arena, tokens, SPEC), tokens.labels, 1 / tokens.labels.shape[1]
        )
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
        expected.append(plain.step(tokens))
    assert losses == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(arena.local_rows().double(), plain.rows, rtol=1e-4, atol=2e-5)
    for name, parameter in model.named_parameters():
        own = plain.parameters[name].detach()
        torch.testing.assert_close(parameter.detach().double(), own, rtol=1e-4, atol=2e-5, msg=name)


def test_a_context_vector_is_projected_once_for_all_impressions_of_a_group() -> None:
    tokens, numbers = batch(0)
    arena = EmbeddingArena(
        SPEC.num_rows, DIM, optimizer=RowOptimizer(ROW_RATE, ROW_EPS), init_range=0.5, seed=1
    )
    context = embed_batch(arena, tokens, SPEC).context
    assert context.shape == (GROUPS, 1, DIM)
    expected = numbers.vectors @ arena.local_rows()[TEXT : TEXT + SIZE].double()
    torch.testing.assert_close(context[:, 0].double(), expected, rtol=1e-5, atol=1e-6)
