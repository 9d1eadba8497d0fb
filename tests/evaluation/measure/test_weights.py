import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from esmm_spark.evaluation.measure.weights import poisson_weights, with_unit_weight

HASHES = np.random.default_rng(3).integers(-(2**63), 2**63 - 1, 5000)


def test_weights_are_poisson_1() -> None:
    weights = poisson_weights(HASHES, 200, seed=42).astype(np.float64)
    # 1M draws: the standard error of a mean is 1e-3.
    assert abs(weights.mean() - 1) < 5e-3
    assert abs(weights.var() - 1) < 1e-2
    assert abs((weights == 0).mean() - np.exp(-1)) < 3e-3
    assert weights.max() <= 8


def test_samples_and_groups_are_uncorrelated() -> None:
    weights = poisson_weights(HASHES, 40, seed=42).astype(np.float64)
    between_samples = np.corrcoef(weights.T) - np.eye(40)
    assert np.abs(between_samples).max() < 0.08
    between_neighbours = np.corrcoef(poisson_weights(np.arange(50), 4000, seed=1).astype(np.float64))
    assert np.abs(between_neighbours - np.eye(50)).max() < 0.08


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30),
    st.integers(0, 9),
    st.integers(-(2**70), 2**70),
)
def test_a_weight_depends_on_seed_sample_and_group_alone(hashes: list[int], samples: int, seed: int) -> None:
    groups = np.array(hashes, dtype=np.int64)
    together = poisson_weights(groups, samples + 5, seed)
    one_by_one = np.concatenate(
        [poisson_weights(groups[i : i + 1], samples, seed) for i in range(len(hashes))]
    )
    np.testing.assert_array_equal(together[:, :samples], one_by_one)


def test_more_groups_than_a_chunk_get_the_same_weights() -> None:
    np.testing.assert_array_equal(poisson_weights(HASHES, 7, 1)[3000:], poisson_weights(HASHES[3000:], 7, 1))


def test_another_seed_gives_other_weights() -> None:
    assert (poisson_weights(HASHES, 10, 1) != poisson_weights(HASHES, 10, 2)).mean() > 0.5


def test_unit_weight_comes_first() -> None:
    weights = with_unit_weight(poisson_weights(HASHES[:3], 2, 1))
    assert weights.shape == (3, 3)
    assert weights[:, 0].tolist() == [1, 1, 1]
