"""Ranges of bytes compare as Python's `bytes` do, wherever they lie."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm_spark.runtime.arrays import Bytes
from esmm_spark.runtime.byte_kernels import compare_bytes, same_bytes
from esmm_spark.runtime.compiling import compiled

_FILES = ("runtime/byte_kernels.py",)
# Bytes on both sides of where a signed byte or an ASCII letter would turn.
texts = st.lists(st.sampled_from([0, 97, 98, 127, 128, 255]), max_size=6).map(bytes)


def _both(
    data: Bytes, start: int, end: int, other: Bytes, other_start: int, other_end: int
) -> tuple[bool, int]:
    return (
        same_bytes(data, start, end, other, other_start, other_end),
        compare_bytes(data, start, end, other, other_start, other_end),
    )


both = compiled(_both, _FILES, _nrt=False)


@settings(max_examples=200, deadline=None)
@given(texts, texts, texts, texts)
def test_ranges_compare_as_bytes_do(before: bytes, text: bytes, other: bytes, behind: bytes) -> None:
    # What lies around the ranges is the same where both begin and end: it must not be looked at.
    data, others = before + text + behind, before + other + behind
    start = len(before)
    same, order = both(
        np.frombuffer(data, dtype=np.uint8),
        start,
        start + len(text),
        np.frombuffer(others, dtype=np.uint8),
        start,
        start + len(other),
    )
    assert same == (text == other)
    assert (order > 0) - (order < 0) == (text > other) - (text < other)


@pytest.mark.parametrize(
    ("text", "other", "sign"),
    [(b"", b"", 0), (b"ab", b"ab", 0), (b"ab", b"abc", -1), (b"b", b"abc", 1), (b"\x7f", b"\x80", -1)],
)
def test_two_ranges_of_one_array_compare_by_hand(text: bytes, other: bytes, sign: int) -> None:
    data = np.frombuffer(text + other, dtype=np.uint8)
    same, order = both(data, 0, len(text), data, len(text), len(data))
    assert (same, np.sign(order)) == (sign == 0, sign)
