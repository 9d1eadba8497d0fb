"""Bootstrap weights against a plain NumPy version, and as random numbers."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from esmm_spark.evaluation.kernels.weights import FREE, WeightTable, num_columns, poisson_weights
from esmm_spark.runtime.splitmix import GOLDEN, splitmix64

HASHES = np.random.default_rng(3).integers(-(2**63) + 1, 2**63 - 1, 5000)


def plain_weights(groups: NDArray[np.int64], num_samples: int, seed: int) -> NDArray[np.uint8]:
    """Returns `[G, B]` by a look-up of 16 bits in the inverse of the Poisson distribution."""
    cumulative = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(12)])
    table = np.searchsorted(cumulative, (np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.uint8)
    words = splitmix64(groups.view(np.uint64) ^ splitmix64(np.array([seed % (1 << 64)], dtype=np.uint64)))
    counter = np.arange(1, -(-num_samples // 4) + 1, dtype=np.uint64) * GOLDEN
    bits = splitmix64(words[:, None] + counter[None, :]).astype("<u8").view("<u2")
    weights: NDArray[np.uint8] = table[bits][:, :num_samples]
    return weights


@settings(deadline=None)
@given(
    st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=30),
    st.integers(0, 40),
    st.integers(-(2**70), 2**70),
)
def test_a_weight_is_the_plain_ones_between_ones_and_zeros(
    hashes: list[int], samples: int, seed: int
) -> None:
    groups = np.array(hashes, dtype=np.int64)
    found = poisson_weights(groups, samples, seed)
    assert found.shape == (len(hashes), num_columns(samples))
    assert found.shape[1] % 16 == 0
    assert (found[:, 0] == 1).all()
    np.testing.assert_array_equal(found[:, 1 : 1 + samples], plain_weights(groups, samples, seed))
    assert not found[:, 1 + samples :].any()


def test_weights_are_poisson_1() -> None:
    weights = poisson_weights(HASHES, 200, seed=42)[:, 1:201].astype(np.float64)
    # 1M draws: the standard error of a mean is 1e-3.
    assert abs(weights.mean() - 1) < 5e-3
    assert abs(weights.var() - 1) < 1e-2
    assert abs((weights == 0).mean() - np.exp(-1)) < 3e-3
    assert weights.max() <= 8


def test_samples_and_groups_are_uncorrelated() -> None:
    weights = poisson_weights(HASHES, 40, seed=42)[:, 1:41].astype(np.float64)
    between_samples = np.corrcoef(weights.T) - np.eye(40)
    assert np.abs(between_samples).max() < 0.08
    neighbours = poisson_weights(np.arange(50), 4000, seed=1)[:, 1:4001].astype(np.float64)
    assert np.abs(np.corrcoef(neighbours) - np.eye(50)).max() < 0.08


def test_another_seed_gives_other_weights() -> None:
    assert (poisson_weights(HASHES, 10, 1) != poisson_weights(HASHES, 10, 2))[:, 1:11].mean() > 0.5


def test_a_table_gives_each_group_its_weights_even_when_it_was_full() -> None:
    table = WeightTable(200, seed=5)
    table.capacity = 1000
    rng = np.random.default_rng(1)
    for _ in range(20):
        groups = rng.choice(HASHES, 700)
        rows = table.places_of(groups)
        assert rows.max() < 1000
        np.testing.assert_array_equal(table.weights[rows], poisson_weights(groups, 200, 5))


def test_the_free_place_is_no_hash_of_a_group() -> None:
    assert FREE == -(2**63)
    assert (WeightTable(3, 1).places_of(np.array([0, -1, FREE + 1, 0])) == [0, 1, 2, 0]).all()
