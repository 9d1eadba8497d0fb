"""The arena against plain torch: nn.EmbeddingBag and a hand-written row-wise Adagrad, in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.row_optimizer import RowOptimizer

LEARNING_RATE, EPS = 0.1, 1e-3


def make_arena(num_rows: int, dim: int, **options: float) -> EmbeddingArena:
    optimizer = RowOptimizer(LEARNING_RATE, options.pop("eps", EPS))
    settings = {"init_range": 0.5, "seed": 5, **options}
    return EmbeddingArena(num_rows, dim, optimizer=optimizer, **settings)  # type: ignore[arg-type]


class PlainArena:
    """nn.EmbeddingBag in float64, stepped by `state += mean(g^2); row -= lr g / (sqrt(state) + eps)`."""

    def __init__(self, rows: Tensor) -> None:
        self.bag = nn.EmbeddingBag.from_pretrained(
            rows.double(), freeze=False, mode="sum", include_last_offset=True
        )
        self.state = torch.zeros(len(rows), dtype=torch.float64)

    def forward(self, rows: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
        offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
        pooled: Tensor = self.bag(rows.long(), offsets, per_sample_weights=weights.double())
        return pooled

    @torch.no_grad()
    def step(self) -> None:
        gradient = self.bag.weight.grad
        assert gradient is not None
        self.state += gradient.square().mean(1)
        self.bag.weight -= LEARNING_RATE * gradient / (self.state.sqrt() + EPS)[:, None]
        self.bag.weight.grad = None


def tokens(bags: list[list[tuple[int, float]]], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    flat = [token for bag in bags for token in bag]
    return (
        torch.tensor([row for row, _ in flat], dtype=dtype),
        torch.tensor([weight for _, weight in flat], dtype=torch.float32),
        torch.tensor([len(bag) for bag in bags], dtype=torch.int32),
    )


# Row 3 twice in a bag and in two bags, empty bags at both ends and between, first and last row, weight 0.
BAGS = [
    [],
    [(3, 1.0), (3, -2.0), (0, 0.5)],
    [],
    [(3, 1.5), (19, 0.25)],
    [(7, 0.0)],
    [(11, 1e-3), (12, 300.0)],
    [],
]


# From 65 on one kernel serves all dims: numba refuses tuples of more than 100.
@pytest.mark.parametrize(
    ("dim", "dtype"),
    [
        *((dim, dtype) for dim in (1, 12, 18) for dtype in (torch.int32, torch.int64)),
        *((dim, torch.int32) for dim in (101, 128, 1024)),
    ],
)
def test_three_steps_equal_plain_torch_in_float64(dim: int, dtype: torch.dtype) -> None:
    arena = make_arena(20, dim)
    plain = PlainArena(arena.local_rows().clone())
    generator = torch.Generator().manual_seed(dim)
    for step in range(3):
        batch = tokens(BAGS[step:] + BAGS[:step], dtype)
        target = torch.randn(len(BAGS), dim, generator=generator)

        found = arena(*batch)
        expected = plain.forward(*batch)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)

        (found - target).square().sum().backward()
        (expected - target.double()).square().sum().backward()
        plain.step()
        torch.testing.assert_close(
            arena.local_rows().double(), plain.bag.weight.detach(), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(arena.state()["accumulator"].double(), plain.state, rtol=1e-4, atol=1e-6)


def test_one_step_has_the_hand_computed_value() -> None:
    arena = make_arena(2, 2, eps=0.5)
    arena.load_local(torch.tensor([[1.0, 2.0], [5.0, 5.0]]), {"accumulator": torch.tensor([3.0, 0.0])})

    out = arena(torch.tensor([0]), torch.tensor([2.0]), torch.tensor([1]))
    assert out.tolist() == [[2.0, 4.0]]
    (out * torch.tensor([[1.0, 7.0]])).sum().backward()

    # g = 2 * (1, 7); state = 3 + (4 + 196) / 2 = 103; row - 0.1 g / (sqrt(103) + 0.5)
    step = 0.1 * np.array([2.0, 14.0]) / (np.sqrt(103.0) + 0.5)
    np.testing.assert_allclose(arena.local_rows().numpy(), [[1 - step[0], 2 - step[1]], [5, 5]], rtol=1e-6)
    np.testing.assert_allclose(arena.state()["accumulator"].numpy(), [103.0, 0.0], rtol=1e-6)


def test_the_first_step_has_the_hand_computed_value_where_eps_rules() -> None:
    # dim 18 lies in 20 columns. With eps far above the state its rescaling shows at once if it is wrong.
    arena = make_arena(1, 18, eps=10.0, init_range=0.0)
    arena(torch.tensor([0]), torch.ones(1), torch.tensor([1])).sum().backward()
    np.testing.assert_allclose(arena.local_rows().numpy(), -LEARNING_RATE / (1 + 10.0), rtol=1e-6)
    np.testing.assert_allclose(arena.state()["accumulator"].numpy(), 1.0, rtol=1e-6)


@pytest.mark.parametrize("row", [-1, 20, 2**31 - 1])
def test_a_row_out_of_range_raises_instead_of_reading_other_memory(row: int) -> None:
    arena = make_arena(20, 12)
    with pytest.raises(RuntimeError):
        arena(torch.tensor([0, row]), torch.ones(2), torch.tensor([1, 1]))


def test_no_bags_and_only_empty_bags_give_zeros_and_no_step() -> None:
    arena = make_arena(20, 18)
    before = arena.local_rows().clone()
    none, empty = torch.zeros(0, dtype=torch.int32), torch.zeros(0)

    assert arena(none, empty, none).shape == (0, 18)
    zeros = arena(none, empty, torch.zeros(3, dtype=torch.int32))
    assert zeros.tolist() == [[0.0] * 18] * 3
    zeros.sum().backward()
    torch.testing.assert_close(arena.local_rows(), before, rtol=0, atol=0)


def test_a_look_up_without_gradient_leaves_the_rows_alone() -> None:
    arena = make_arena(20, 12)
    before = arena.local_rows().clone()
    with torch.no_grad():
        found = arena(torch.tensor([4]), torch.ones(1), torch.tensor([1]))
    torch.testing.assert_close(found[0], before[4])
    torch.testing.assert_close(arena.local_rows(), before, rtol=0, atol=0)


@pytest.mark.parametrize("dim", [12, 18])
def test_loading_what_was_read_goes_on_as_if_never_stopped(dim: int) -> None:
    batch = tokens(BAGS, torch.int32)
    going_on, resumed = make_arena(20, dim), make_arena(20, dim, seed=99)
    going_on(*batch).square().sum().backward()
    resumed.load_local(going_on.local_rows().clone(), going_on.state())
    for arena in (going_on, resumed):
        arena(*batch).square().sum().backward()
    torch.testing.assert_close(resumed.local_rows(), going_on.local_rows(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        resumed.state()["accumulator"], going_on.state()["accumulator"], rtol=1e-6, atol=0
    )


def test_loading_rows_of_another_shape_or_another_optimizers_state_says_both() -> None:
    own = r"holds \{'rows': \(20, 12\), 'accumulator': \(20,\)\}, given are "
    with pytest.raises(ValueError, match=own + r"\{'rows': \(10, 12\), 'accumulator': \(10,\)\}"):
        make_arena(20, 12).load_local(torch.zeros(10, 12), {"accumulator": torch.zeros(10)})
    with pytest.raises(ValueError, match=own + r"\{'rows': \(20, 12\)\}"):
        make_arena(20, 12).load_local(torch.zeros(20, 12), {})


def test_no_parameter_of_the_arena_has_a_dense_gradient() -> None:
    arena = make_arena(20, 12)
    arena(*tokens(BAGS, torch.int32)).sum().backward()
    assert all(p.grad is None or p.grad.numel() <= 1 for p in arena.parameters())
    assert arena.exchanged_bytes == 0
