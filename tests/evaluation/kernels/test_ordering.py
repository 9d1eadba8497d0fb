"""Radix sort, gathering, matching of ids and hashes of texts, against NumPy, dictionaries and xxhash."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm_spark.evaluation.kernels import ordering, scratch
from esmm_spark.evaluation.kernels.gathering import count_target, gather_target, ranges_of
from esmm_spark.evaluation.kernels.id_hashes import text_hashes
from esmm_spark.evaluation.kernels.matching import NOT_FOUND, count_repeated, id_order, match
from esmm_spark.evaluation.kernels.ordering import sorted_order

# Two hashes of few values: many are equal, and many only in the first.
IDS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=30)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@settings(deadline=None)
@given(values=st.lists(st.floats(0, 1, width=32), max_size=50))
def test_scores_are_sorted_stably(kind: type, values: list[float]) -> None:
    scores = np.array(values, dtype=kind) + kind(0)
    assert sorted_order(scores).tolist() == np.argsort(scores, kind="stable").tolist()


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50))
def test_hashes_are_sorted_as_if_unsigned(values: list[int]) -> None:
    hashes = np.array(values, dtype=np.int64)
    assert sorted_order(hashes).tolist() == np.argsort(hashes.view(np.uint64), kind="stable").tolist()


def test_many_scores_are_sorted_in_memory_and_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.round(np.random.default_rng(0).random(100_000), 4)
    expected = np.argsort(scores, kind="stable")
    np.testing.assert_array_equal(sorted_order(scores), expected)
    made: list[int] = []

    def empty(size: int, kind: Any) -> Any:
        made.append(size)
        return scratch.empty(size, kind)

    monkeypatch.setattr(scratch, "MEMORY_BYTES", 1000)
    monkeypatch.setattr(ordering, "empty", empty)
    np.testing.assert_array_equal(sorted_order(scores), expected)
    assert len(made) == 4


@settings(deadline=None)
@given(IDS, IDS)
def test_ids_are_matched_as_a_dictionary_would(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]]
) -> None:
    sides = []
    for ids in (ours, theirs):
        first, second = (np.array([pair[i] for pair in ids], dtype=np.uint64) for i in (0, 1))
        order = id_order(first, second)
        sides.append((first[order], second[order]))
    pairs = [list(zip(first.tolist(), second.tolist(), strict=True)) for first, second in sides]
    assert pairs == [sorted(ours), sorted(theirs)]
    found = match(*sides)
    for pair, place in zip(pairs[0], found.places, strict=True):
        assert (pairs[1][place] == pair) if pair in theirs else place == NOT_FOUND
    times = Counter(theirs)
    repeated = {pair: count for pair, count in times.items() if count > 1}
    shared = [count for pair, count in repeated.items() if pair in ours]
    others = [count for pair, count in repeated.items() if pair not in ours]
    assert (found.missing, found.surplus) == (len(set(ours) - set(theirs)), len(set(theirs) - set(ours)))
    assert (found.duplicates, found.repetitions) == (len(shared), sum(shared))
    assert (found.surplus_duplicates, found.surplus_repetitions) == (len(others), sum(others))
    assert count_repeated(sides[1]) == (len(repeated), sum(repeated.values()))


@settings(deadline=None)
@given(st.lists(st.text(max_size=50), max_size=20), st.integers(0, 3))
def test_texts_have_xxhashs_hash(texts: list[str], skipped: int) -> None:
    for kind in (pa.string(), pa.large_string()):
        found = text_hashes(pa.array(texts, kind)[skipped:], 42)
        assert found.tolist() == [xxhash.xxh64_intdigest(text.encode(), 42) for text in texts[skipped:]]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 5, 128, 129])
def test_a_score_is_in_the_range_whose_splitter_it_reaches(kind: type, size: int) -> None:
    rng = np.random.default_rng(size)
    splitters = np.sort(rng.random(size))
    scores: Any = np.concatenate([rng.random(5000), splitters, [0.0, 1.0]]).astype(kind)
    expected = np.searchsorted(splitters, scores.astype(np.float64), side="right")
    np.testing.assert_array_equal(ranges_of(scores, splitters), expected)


@pytest.mark.parametrize("shift", [0, 2])
def test_impressions_that_count_for_a_target_are_gathered_in_their_order(shift: int) -> None:
    rng = np.random.default_rng(shift)
    scores: Any = rng.random(1000).astype(np.float32)
    groups = rng.integers(-9, 9, 1000)
    codes = rng.choice(np.array([0, 1, 2, 4, 6, 9, 10], dtype=np.uint8), 1000)
    places = rng.permutation(1000).astype(np.int32)
    taken = np.empty(1000), np.empty(1000, np.int64), np.empty(1000, np.bool_)
    count = gather_target(places, (scores, groups, codes), shift, taken)
    own = (codes[places] >> shift) & 3
    counts = places[own > 0]
    assert count_target(codes, shift) == (count, int((own == 2).sum()))
    np.testing.assert_array_equal(taken[0][:count], scores[counts].astype(np.float64))
    np.testing.assert_array_equal(taken[1][:count], groups[counts])
    np.testing.assert_array_equal(taken[2][:count], own[own > 0] == 2)
