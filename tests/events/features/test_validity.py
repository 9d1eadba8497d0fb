"""Which row of a catalog holds when: against brute force."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm_spark.events.features.validity import make_disjoint

Row = tuple[str, int, int | None, int]

rows_of_a_catalog = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(-10, 10), st.none() | st.integers(1, 15)), max_size=12
)


def holder(rows: list[Row], key: str, time: int) -> int | None:
    """The rule as the documentation has it: of the rows that hold, that with the latest valid_from."""
    holding = []
    for place, (row_key, start, end, number) in enumerate(rows):
        if row_key != key:
            continue
        if end is None:
            later = [other for other_key, other, _, _ in rows if other_key == key and other > start]
            end = min(later, default=10**9)
        if start <= time < end:
            holding.append((start, place, number))
    return max(holding)[2] if holding else None


def disjoint(rows: list[Row], batch_rows: int) -> list[dict[str, Any]]:
    keys, starts, ends, numbers = zip(*rows, strict=True) if rows else ((), (), (), ())
    table = pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "from": pa.array(starts, pa.int64()),
            "to": pa.array(ends, pa.int64()),
            "number": pa.array(numbers, pa.int64()),
        }
    )
    found = make_disjoint(table.to_batches(max_chunksize=batch_rows), "key", "from", "to")
    return [row for batch in found for row in batch.to_pylist()]


@settings(max_examples=150, deadline=None)
@given(rows_of_a_catalog, st.integers(1, 5))
@pytest.mark.slow
def test_at_each_time_the_row_that_began_last_holds_and_no_other(
    drawn: list[tuple[str, int, int | None]], batch_rows: int
) -> None:
    sized = [(key, start, None if length is None else start + length) for key, start, length in drawn]
    ordered = sorted(sized, key=lambda row: row[:2])
    rows = [(*row, number) for number, row in enumerate(ordered)]
    segments = disjoint(rows, batch_rows)
    assert len(segments) <= 2 * len(rows)
    for key in "ab":
        for time in range(-11, 27):
            holding = [
                row["number"] for row in segments if row["key"] == key and row["from"] <= time < row["to"]
            ]
            expected = holder(rows, key, time)
            assert holding == ([] if expected is None else [expected])


def test_the_row_around_a_short_one_holds_again_after_it() -> None:
    hour = 3600
    rows: list[Row] = [("i", -10 * hour, 10 * hour, 0), ("i", -4 * hour, -2 * hour, 1)]
    found = [(row["from"], row["to"], row["number"]) for row in disjoint(rows, 10)]
    assert found == [
        (-10 * hour, -4 * hour, 0),
        (-4 * hour, -2 * hour, 1),
        (-2 * hour, 10 * hour, 0),
    ]
