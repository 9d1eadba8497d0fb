"""Decimal numbers against Python's float."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esmm_spark.logs.decimals import parse_float32

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


def parse(text: str) -> tuple[bool, np.float32]:
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    return parse_float32(data, 0, len(data), np.empty(len(data) + 1, dtype=np.uint8))


def check(text: str) -> None:
    is_number, number = parse(text)
    if not NUMBER.fullmatch(text):
        assert not is_number
        return
    with np.errstate(over="ignore"):
        expected = np.float32(float(text))
    assert is_number == np.isfinite(expected)
    if is_number:
        assert np.float32(number).tobytes() == expected.tobytes(), text


@settings(max_examples=250, deadline=None)
@given(st.from_regex(NUMBER, fullmatch=True))
@example("0.69314718055994530941723212145817656807550013436025525412068")
@example("9007199254740993")
@example("9007199254740993e-10")
@example("1e-45")
@example("7.0064923216240853546186479164495807e-46")
@example("3.4028235677973366e38")
@example("-0")
@example("1e22")
@example("1e23")
@example("000000000000000000000000000001")
@example("1e999999999999999999999")
@example("0e999999999999999999999")
@pytest.mark.slow
def test_a_number_is_the_nearest_float_bit_for_bit(text: str) -> None:
    check(text)


@settings(max_examples=250, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_what_python_prints_comes_back(value: float) -> None:
    check(repr(value))


@settings(max_examples=250, deadline=None)
@given(st.text(alphabet="0123456789+-.eE_ infa\u0661", max_size=8))
@example("")
@example(".")
@example("-")
@example("1e")
@example("1e+")
@example("e5")
@example("1.2.3")
@example("inf")
@example("nan")
@example("0x10")
@example(" 1")
def test_what_is_no_decimal_number_is_refused(text: str) -> None:
    check(text)
