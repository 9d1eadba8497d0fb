import numpy as np
import pytest
import torch

from esmm_spark.model.embedding.initial_rows import fill_uniform

MASK = 2**64 - 1


def splitmix64(z: int) -> int:
    """The finaliser in Python's unbounded integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def rows_of(rank: int, num_ranks: int, num_rows: int = 1000, dim: int = 18, seed: int = 42) -> torch.Tensor:
    rows = torch.empty((num_rows - rank + num_ranks - 1) // num_ranks, dim)
    fill_uniform(rows, rank, num_ranks, 0.25, seed)
    return rows


@pytest.mark.parametrize("num_ranks", [2, 3, 7])
def test_a_row_starts_the_same_whoever_owns_it(num_ranks: int) -> None:
    whole = rows_of(0, 1)
    for rank in range(num_ranks):
        torch.testing.assert_close(rows_of(rank, num_ranks), whole[rank::num_ranks], rtol=0, atol=0)


@pytest.mark.parametrize("seed", [0, 42, -1, 2**70])
def test_the_numbers_are_those_of_splitmix64(seed: int) -> None:
    found = rows_of(0, 1, num_rows=5, dim=3, seed=seed)
    start = splitmix64(seed % 2**63)
    for row in range(5):
        for column in range(3):
            bits = splitmix64(((row * 3 + column) * 0x9E3779B97F4A7C15 + start) & MASK)
            signed = bits - 2**64 if bits >= 2**63 else bits
            assert found[row, column].item() == np.float32((signed >> 40) * 2.0**-23 * 0.25)


def test_they_fill_the_range_evenly_and_follow_the_seed() -> None:
    rows = rows_of(0, 1, num_rows=100_000, dim=12)
    assert rows.min() >= -0.25
    assert rows.max() < 0.25
    counts, _ = np.histogram(rows.numpy(), bins=20, range=(-0.25, 0.25))
    # 60,000 a bin, standard deviation 239.
    assert abs(counts - 60_000).max() < 6 * 239
    # correlation of neighbours has standard deviation 1/sqrt(1.2M)
    flat = rows.flatten().double()
    assert abs(float((flat[1:] * flat[:-1]).mean() / flat.square().mean())) < 6 / 1.2e6**0.5
    assert not torch.equal(rows, rows_of(0, 1, num_rows=100_000, dim=12, seed=43))


def test_a_view_of_padded_rows_is_filled_and_its_padding_left_alone() -> None:
    padded = torch.full((100, 20), 9.0)
    fill_uniform(padded[:, :18], 0, 1, 0.25, 42)
    torch.testing.assert_close(padded[:, :18], rows_of(0, 1, num_rows=100), rtol=0, atol=0)
    assert (padded[:, 18:] == 9.0).all()
