"""Items shared out to tasks."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from esmm_spark.spark.shares import balanced_shares


def test_the_worked_example() -> None:
    assert balanced_shares(["a", "b", "c", "d"], {"a": 4, "b": 4, "c": 4, "d": 12}.__getitem__, 2) == [
        ["a", "b", "c"],
        ["d"],
    ]


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 8))
def test_an_item_goes_to_the_share_that_holds_its_middle(sizes: list[int], tasks: int) -> None:
    expected: dict[int, list[int]] = {}
    for number, size in enumerate(sizes):
        middle = Fraction(2 * sum(sizes[:number]) + size, 2)
        at = middle / sum(sizes) * tasks if any(sizes) else 0
        expected.setdefault(min(int(at), tasks - 1), []).append(number)
    assert balanced_shares(range(len(sizes)), sizes.__getitem__, tasks) == [
        expected[i] for i in sorted(expected)
    ]
