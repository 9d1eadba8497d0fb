"""The two tables of embedding rows, ours for the CPU and FBGEMM's, against each other."""

from typing import Any

import numpy as np
import pytest
import torch

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.train_config import RowOptimizerName
from esmm_spark.model.embedding import step_kernels
from esmm_spark.model.embedding.cpu_table import CpuTable
from esmm_spark.model.embedding.fbgemm_table import FbgemmTable
from esmm_spark.model.embedding.row_kernels import columns_of, pool, pool_backward, slots_for
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.embedding.step_kernels import RowSums, SortedTokens, _sum_rows

NUM_ROWS, LEARNING_RATE, EPS = 500, 0.1, 1e-3
ADAGRAD = RowOptimizer(LEARNING_RATE, EPS)


def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Returns indices, offsets and weights; few rows are met often, most once, some never."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for _ in range(count):
        lengths = torch.randint(0, 6, (400,), generator=generator)
        num_tokens = int(lengths.sum())
        often = torch.randint(0, 5, (num_tokens // 2,), generator=generator)
        seldom = torch.randint(0, NUM_ROWS, (num_tokens - num_tokens // 2,), generator=generator)
        indices = torch.cat((often, seldom))[torch.randperm(num_tokens, generator=generator)]
        offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
        found.append((indices.int(), offsets.int(), torch.randn(num_tokens, generator=generator)))
    return found


@pytest.mark.parametrize("dim", [12, 18])
@pytest.mark.parametrize(
    "optimizer",
    [
        ADAGRAD,
        RowOptimizer(LEARNING_RATE, EPS, "sgd"),
        RowOptimizer(LEARNING_RATE, EPS, "rowwise_adagrad", l2=0.5),
        RowOptimizer(LEARNING_RATE, EPS, "sgd", l2=0.5),
    ],
)
def test_ours_and_fbgemm_s_take_the_same_steps(dim: int, optimizer: RowOptimizer) -> None:
    ours = CpuTable(NUM_ROWS, dim, optimizer)
    theirs = FbgemmTable(NUM_ROWS, dim, optimizer, torch.device("cpu"), torch.int32)
    start = torch.randn(NUM_ROWS, dim, generator=torch.Generator().manual_seed(1))
    for step, batch in enumerate(batches(4)):
        for table in (ours, theirs):
            if step == 0:
                table.rows.copy_(start)
                table.load_state({"accumulator": torch.linspace(0, 2, NUM_ROWS)})
            if step == 2:
                table.begin_step(step + 1, LEARNING_RATE / 3)
            table.pooled(*batch).sin().sum().backward()
        torch.testing.assert_close(ours.rows, theirs.rows, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.state(), theirs.state(), rtol=1e-5, atol=1e-6)


def test_adam_is_refused_where_fbgemm_would_have_to_serve() -> None:
    with pytest.raises(ConfigError, match=r"embedding_optimizer = adam, train\.device = cpu: on it rows"):
        FbgemmTable(3, 4, RowOptimizer(0.1, EPS, "adam"), torch.device("cpu"), torch.int32)


@pytest.mark.parametrize("name", ["rowwise_adagrad", "adam", "sgd"])
def test_a_step_does_not_depend_on_the_number_of_threads_by_a_single_bit(name: RowOptimizerName) -> None:
    before, stepped = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        table = CpuTable(NUM_ROWS, 12, RowOptimizer(LEARNING_RATE, EPS, name, l2=0.1))
        table.rows.copy_(torch.linspace(-1, 1, NUM_ROWS * 12).view(NUM_ROWS, 12))
        for batch in batches(2):
            table.pooled(*batch).sin().sum().backward()
        stepped.append((table.rows, table.state()))
    torch.set_num_threads(before)
    assert torch.equal(stepped[0][0], stepped[1][0])
    assert all(torch.equal(stepped[0][1][key], stepped[1][1][key]) for key in stepped[0][1])


@pytest.mark.parametrize("num_tokens", [1, 511, 512, 600, 1023, 1024, 5000])
@pytest.mark.parametrize("num_rows", [1, 3])
def test_a_batch_of_few_rows_that_fills_a_partition_is_summed_whole(num_tokens: int, num_rows: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    table = CpuTable(NUM_ROWS, 12, ADAGRAD)
    indices = (torch.arange(num_tokens) % num_rows).int()
    offsets = torch.arange(num_tokens + 1).int()
    for _ in range(3):
        table.pooled(indices, offsets, torch.ones(num_tokens)).sum().backward()
    torch.set_num_threads(before)

    state, value = torch.zeros(num_rows), torch.zeros(num_rows)
    counts = torch.bincount(indices, minlength=num_rows).float()
    for _ in range(3):
        state += counts**2
        value -= LEARNING_RATE * counts / (state.sqrt() + EPS)
    torch.testing.assert_close(table.state()["accumulator"][:num_rows], state)
    torch.testing.assert_close(table.rows[:num_rows], value.unsqueeze(1).expand(-1, 12))
    assert not table.state()["accumulator"][num_rows:].any()


@pytest.mark.parametrize("num_tokens", [600, 1023, 5000])
def test_a_partition_with_all_tokens_writes_to_its_own_slots_alone(num_tokens: int) -> None:
    size, guard = slots_for(num_tokens), -1  # -1: a free slot
    memory = np.full((2, 4 * size), guard, np.int32)
    rows = np.arange(num_tokens, dtype=np.int32) // 2
    found, sums = np.empty(num_tokens, np.int32), np.empty((num_tokens, 12), np.float32)
    count = _sum_rows(
        columns_of(12),
        SortedTokens(rows, np.ones(num_tokens, np.float32), np.zeros(num_tokens, np.int32)),
        np.ones((1, 12), np.float32),
        RowSums(memory[0, :size], memory[1, :size], found, sums),
    )
    assert found[:count].tolist() == sorted(set(rows.tolist()))
    assert sums[:count].sum() == 12 * num_tokens
    assert (memory[:, size:] == guard).all()


@pytest.mark.parametrize("kernel", [pool, pool_backward, step_kernels.sum_and_step_rows])
def test_a_kernel_encloses_nothing_so_that_the_next_process_finds_it_compiled(kernel: Any) -> None:
    assert kernel.py_func.__closure__ is None
