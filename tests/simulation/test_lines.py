"""The text of lines, against values worked out by hand."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmm_spark.simulation.bags import IdBags
from esmm_spark.simulation.lines import (
    JITTER_BITS,
    _joined_tokens,
    common_feature_indices,
    content_of,
    sample_ids,
)


def bags(num_owners: int, *tokens: tuple[int, int, int]) -> IdBags:
    """Returns bags of (owner, id, count)."""
    columns = np.array(tokens, dtype=np.int64).reshape(-1, 3)
    return IdBags(columns[:, 0], columns[:, 1], columns[:, 2], num_owners)


def test_tokens_are_joined_owner_by_owner_and_field_by_field() -> None:
    fields = {
        "205": bags(3, (0, 34, 0), (2, 5, 0)),
        "853": bags(3, (0, 77, 1), (0, 78, 9), (2, 1, 2)),
    }
    num_tokens, tokens = _joined_tokens(fields)
    assert num_tokens.to_pylist() == ["3", "0", "2"]
    assert tokens.to_pylist() == [
        "205\x0234\x031.0\x01853\x0277\x030.69315\x01853\x0278\x032.30259",
        "",
        "205\x025\x031.0\x01853\x021\x031.09861",
    ]


def test_sample_ids_are_consecutive() -> None:
    assert sample_ids(9, 3).to_pylist() == ["9", "10", "11"]


def test_content_is_the_bytes_of_the_lines_also_of_a_slice() -> None:
    lines = pa.array(["a\n", "bc\n", "d\n"])
    assert content_of(lines).to_pybytes() == b"a\nbc\nd\n"
    assert content_of(lines.slice(1, 1)).to_pybytes() == b"bc\n"


def test_an_index_of_the_test_split_is_odd_and_lies_in_its_groups_step() -> None:
    index = common_feature_indices(np.array([3]), 16, True, np.array([(1 << JITTER_BITS) - 1]))
    assert index.to_pylist() == ["3fffffffffffff01"]


@given(
    num_groups=st.sampled_from([1, 2, 3, 1000, 730_600, 10**9, 10**10]),
    jitters=st.tuples(*[st.integers(0, (1 << JITTER_BITS) - 1)] * 2),
)
@pytest.mark.parametrize("is_test", [False, True])
def test_indices_are_hexadecimal_ascending_and_of_their_split(
    num_groups: int, jitters: tuple[int, int], is_test: bool
) -> None:
    number = np.unique([max(num_groups - 2, 0), num_groups - 1])
    index = common_feature_indices(number, num_groups, is_test, np.array(jitters)[: len(number)]).to_pylist()
    assert index == sorted(set(index))
    assert all(len(text) == 16 and int(text, 16) % 2 == is_test for text in index)
