"""AUCs of single columns against scikit-learn; a value's own rate must not judge itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from esmm_spark.profile.counts.separation import area_under_curve, differing_keys, separation
from esmm_spark.runtime.arrays import Bools

NONE = np.zeros(1000, dtype=bool)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), num_values=st.integers(1, 30))
def test_auc_with_ties_is_scikit_learns(seed: int, num_values: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(num_values, size=200).astype(float)
    labels = random.random(200) < 0.4
    assert area_under_curve(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_few_of_a_label_have_no_auc() -> None:
    labels = np.arange(1000) < 19
    assert area_under_curve(np.arange(1000.0), labels) is None


def halves_and_labels(share: float = 0.3) -> tuple[Bools, Bools]:
    random = np.random.default_rng(1)
    return random.random(1000) < 0.5, random.random(1000) < share


def test_a_unique_id_separates_nothing() -> None:
    halves, labels = halves_and_labels()
    ids = np.arange(1000)
    found = separation(np.full(1000, np.nan), ids, NONE, labels, halves)
    assert found.auc == 0.5


def test_a_column_that_is_missing_without_the_event_separates_it_though_its_values_are_unique() -> None:
    halves, labels = halves_and_labels()
    found = separation(np.full(1000, np.nan), np.arange(1000), ~labels, labels, halves)
    assert found.auc == 1.0


def test_values_with_rates_separate_as_well_as_their_rates_do() -> None:
    halves, _ = halves_and_labels()
    random = np.random.default_rng(2)
    values = random.integers(5, size=1000)
    rates = np.array([0.05, 0.9, 0.1, 0.8, 0.3])[values]
    labels = random.random(1000) < rates
    found = separation(np.full(1000, np.nan), values, NONE, labels, halves)
    assert found.by_value == pytest.approx(roc_auc_score(labels, rates), abs=0.03)


def test_a_number_separates_in_either_direction_and_where_it_is_missing() -> None:
    halves, labels = halves_and_labels()
    numbers = -np.arange(1000.0)
    labels = numbers < -700
    found = separation(numbers, np.arange(1000), NONE, labels, halves)
    assert found.by_number == 1.0
    known = np.where(labels, np.nan, 1.0)
    found = separation(known, np.zeros(1000, dtype=int), labels, labels, halves)
    assert found.by_number == 1.0


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2)), max_size=30))
def test_keys_within_which_a_value_differs(pairs: list[tuple[int, int]]) -> None:
    values: dict[int, set[int]] = {}
    for key, value in pairs:
        values.setdefault(key, set()).add(value)
    keys, hashes = (np.array([pair[place] for pair in pairs], dtype=np.int64) for place in (0, 1))
    assert differing_keys(keys, hashes) == sum(len(found) > 1 for found in values.values())
