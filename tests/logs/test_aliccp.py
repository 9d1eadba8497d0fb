"""Bytes of lines: UTF-8, commas, counts."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esmm_spark.logs.aliccp import is_utf8, parse_context
from esmm_spark.logs.reasons import ACCEPTED


@settings(max_examples=250, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=12), st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )
)
@example(b"\xc0\x80")  # overlong
@example(b"\xe0\x80\x80")
@example(b"\xed\xa0\x80")  # a surrogate
@example(b"\xf4\x90\x80\x80")  # beyond the last code point
@example(b"\xf0\x9f\x98\x80")
@example(b"abc\xe2\x82")  # cut
def test_utf8_is_what_python_decodes(text: bytes) -> None:
    try:
        text.decode("utf-8")
        expected = True
    except UnicodeDecodeError:
        expected = False
    data = np.frombuffer(text, dtype=np.uint8)
    assert is_utf8(data, 0, len(data)) == expected


def test_commas_behind_the_columns_are_part_of_the_tokens() -> None:
    line = b"k,1,a,b\x02c,d\x031"
    data = np.frombuffer(line, dtype=np.uint8)
    assert parse_context(data, 0, len(line)) == (ACCEPTED, 1, 1, 4)
