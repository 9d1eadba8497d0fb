"""Each optimizer of embedding rows against plain float64 loops and against torch's own."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from esmm_spark.contracts.train_config import RowOptimizerName
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.row_optimizer import RowOptimizer

NUM_ROWS, DIM, STEPS, RATE = 30, 6, 12, 0.05
NAMES: list[RowOptimizerName] = ["rowwise_adagrad", "adam", "sgd"]


def batches(num_rows: int = NUM_ROWS) -> Iterator[tuple[tuple[Tensor, Tensor, Tensor], Tensor]]:
    """Yields bags of two tokens and a target for each: rows come more than once, or not at all for steps."""
    generator = torch.Generator().manual_seed(6)
    for _ in range(STEPS):
        rows = torch.randint(0, num_rows, (16,), generator=generator)
        weights = torch.randn(16, generator=generator)
        target = torch.randn(8, DIM, generator=generator)
        yield (rows, weights, torch.full((8,), 2)), target


def arena_of(optimizer: RowOptimizer) -> EmbeddingArena:
    return EmbeddingArena(NUM_ROWS, DIM, optimizer=optimizer, init_range=0.5, seed=5)


def trained(arena: EmbeddingArena, rates: list[float]) -> EmbeddingArena:
    """Takes the steps of `batches`, each with its learning rate, on the sum of squared distances."""
    for step, (batch, target) in enumerate(batches()):
        arena.begin_step(step + 1, rates[step])
        (arena(*batch) - target).square().sum().backward()
    return arena


def falling() -> list[float]:
    return [RATE * (1 - step / STEPS) for step in range(STEPS)]


def plain(optimizer: RowOptimizer, start: Tensor, rates: list[float]) -> npt.NDArray[np.float64]:
    """Returns the rows after the same steps, row by row and number by number in float64."""
    rows = start.double().numpy().copy()
    accumulator, first, second = np.zeros(NUM_ROWS), np.zeros_like(rows), np.zeros_like(rows)
    for step, ((tokens, weights, _), target) in enumerate(batches()):
        gradients: dict[int, npt.NDArray[np.float64]] = {}
        pairs = list(zip(tokens.tolist(), weights.double().tolist(), strict=True))
        for bag in range(8):
            both = pairs[2 * bag : 2 * bag + 2]
            pooled = sum(weight * rows[row] for row, weight in both)
            for row, weight in both:
                gradient = 2 * weight * (pooled - target[bag].double().numpy())
                gradients[row] = gradients.get(row, np.zeros(DIM)) + gradient
        for row, g in gradients.items():
            g = g + optimizer.l2 * rows[row]
            if optimizer.name == "sgd":
                change = g
            elif optimizer.name == "rowwise_adagrad":
                accumulator[row] += (g**2).mean()
                change = g / (math.sqrt(accumulator[row]) + optimizer.eps)
            else:
                first[row] = 0.9 * first[row] + 0.1 * g
                second[row] = 0.999 * second[row] + 0.001 * g**2
                unbiased = first[row] / (1 - 0.9 ** (step + 1)), second[row] / (1 - 0.999 ** (step + 1))
                change = unbiased[0] / (np.sqrt(unbiased[1]) + optimizer.eps)
            rows[row] -= rates[step] * change
    return rows


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_steps_equal_a_plain_float64_loop(name: RowOptimizerName, l2: float) -> None:
    optimizer = RowOptimizer(RATE, 1e-3, name, l2)
    arena = arena_of(optimizer)
    expected = plain(optimizer, arena.local_rows().clone(), falling())
    found = trained(arena, falling()).local_rows()
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_penalty_moves_touched_rows_alone(name: RowOptimizerName) -> None:
    arena = arena_of(RowOptimizer(RATE, 1e-3, name, l2=0.3))
    before = arena.local_rows().clone()
    # A weight of 0 leaves the penalty as the only gradient: g = 0.3 row.
    arena(torch.tensor([4, 4]), torch.zeros(2), torch.tensor([2])).sum().backward()
    moved = (arena.local_rows() != before).any(1)
    assert moved.nonzero().flatten().tolist() == [4]
    if name == "sgd":
        torch.testing.assert_close(arena.local_rows()[4], (1 - 0.3 * RATE) * before[4])


def test_adam_is_torchs_sparse_adam_but_for_where_eps_is_added() -> None:
    arena = arena_of(RowOptimizer(RATE, 1e-30, "adam"))
    bag = torch.nn.EmbeddingBag.from_pretrained(
        arena.local_rows().double(), freeze=False, mode="sum", sparse=True
    )
    sparse_adam = torch.optim.SparseAdam(bag.parameters(), lr=RATE, eps=1e-30)
    for (rows, weights, _), target in batches():
        pooled = bag(rows, torch.arange(0, 16, 2), per_sample_weights=weights.double())
        sparse_adam.zero_grad()
        (pooled - target.double()).square().sum().backward()
        sparse_adam.step()
    found = trained(arena, [RATE] * STEPS).local_rows()
    torch.testing.assert_close(found.double(), bag.weight.detach(), rtol=2e-4, atol=2e-5)


def test_where_every_step_touches_every_row_it_is_torchs_adam_eps_included() -> None:
    arena = arena_of(RowOptimizer(RATE, 0.5, "adam"))
    rows = arena.local_rows().double().clone().requires_grad_()
    adam = torch.optim.Adam([rows], lr=RATE, eps=0.5)
    everything = (torch.arange(NUM_ROWS), torch.ones(NUM_ROWS), torch.ones(NUM_ROWS, dtype=torch.int64))
    for step in range(STEPS):
        arena.begin_step(step + 1, RATE)
        arena(*everything).pow(3).sum().backward()
        adam.zero_grad()
        rows.pow(3).sum().backward()
        adam.step()
    torch.testing.assert_close(arena.local_rows().double(), rows.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_state_are_all_that_a_resumed_arena_needs(name: RowOptimizerName) -> None:
    optimizer = RowOptimizer(RATE, 1e-3, name, l2=0.1)
    whole = trained(arena_of(optimizer), falling())
    interrupted = arena_of(optimizer)
    for step, (batch, target) in enumerate(batches()):
        if step == 5:
            resumed = EmbeddingArena(NUM_ROWS, DIM, optimizer=optimizer, init_range=0.1, seed=77)
            state = {key: tensor.clone() for key, tensor in interrupted.state().items()}
            resumed.load_local(interrupted.local_rows().clone(), state)
            interrupted = resumed
        interrupted.begin_step(step + 1, falling()[step])
        (interrupted(*batch) - target).square().sum().backward()
    assert torch.equal(interrupted.local_rows(), whole.local_rows())
    for key, tensor in whole.state().items():
        assert torch.equal(interrupted.state()[key], tensor)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_has_the_width_that_is_told(name: RowOptimizerName) -> None:
    optimizer = RowOptimizer(RATE, 1e-3, name)
    state = arena_of(optimizer).state()
    numbers = sum(tensor.numel() for tensor in state.values())
    expected = {"rowwise_adagrad": 1, "adam": 2 * DIM, "sgd": 0}[name]
    assert (numbers, optimizer.state_width(DIM)) == (NUM_ROWS * expected, expected)
