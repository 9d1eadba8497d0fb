"""Expected collisions against values that are dealt out."""

import numpy as np
import pytest

from esmm_spark.profile.counts.collisions import MOST_BUCKETS, colliding_share, suggested_buckets


@pytest.mark.parametrize(("distinct", "num_buckets"), [(100, 1000), (5000, 4096), (2, 3)])
def test_the_expected_share_is_that_of_dealt_values(distinct: int, num_buckets: int) -> None:
    random = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        buckets = random.integers(num_buckets - 1, size=distinct)
        shares.append((np.bincount(buckets)[buckets] > 1).mean())
    assert colliding_share(distinct, num_buckets) == pytest.approx(np.mean(shares), abs=0.03)


def test_one_value_collides_with_none() -> None:
    assert colliding_share(1, 2) == 0.0
    assert colliding_share(2, 2) == 1.0


@pytest.mark.parametrize(("distinct", "most"), [(1, 0.05), (100, 0.05), (50_000, 0.05), (10**6, 0.2)])
def test_suggested_tables_keep_collisions_rare(distinct: int, most: float) -> None:
    assert colliding_share(distinct, suggested_buckets(distinct)) <= most


def test_a_table_has_a_most() -> None:
    assert suggested_buckets(10**9) == MOST_BUCKETS
