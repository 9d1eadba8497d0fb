"""Every reason for which a line is rejected, and what is tolerated. One line each, no Spark."""

import pytest

from tests.samples.grouping.test_grouper import run
from tests.samples.raw_lines import context, impression, token

GOOD = impression("0", "k", token("205", "1"))
CONTEXT = context("k", token("101", "1"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,0,0,k", "too_few_columns"),
        (b"1", "too_few_columns"),
        (b"1,0,0,k,0", "too_few_columns"),
        (b"1,0,0,k,1,205\x027\x031\xff", "invalid_utf8"),
        (impression("", "k"), "missing_id"),
        (impression("1", ""), "missing_id"),
        (impression("1", "k", click=2), "bad_label"),
        (impression("1", "k", click=""), "bad_label"),
        (impression("1", "k", conversion="1.0"), "bad_label"),
        (impression("1", "k", conversion=1), "conversion_without_click"),
        (impression("1", "k", b"205"), "bad_token"),
        (impression("1", "k", token("205", "1", "heavy")), "bad_token"),
        (impression("1", "k", token("205", "1", "inf")), "bad_token"),
        (impression("1", "k", token("205", "", "1")), "bad_token"),
        (impression("1", "k", token("", "1", "1")), "bad_token"),
        (impression("1", "k", token("unknown", "1", "heavy")), "bad_token"),
        (impression("1", "k", token("205", "1"), count=2), "token_count_mismatch"),
        (impression("1", "k", count=1), "token_count_mismatch"),
        (impression("1", "k", token("205", "1"), count="one"), "token_count_mismatch"),
        (impression("1", "k", token("205", "1"), token("205", "2")), "several_values"),
        (impression("1", "nobody"), "unknown_context"),
        (impression("0", "k", token("205", "2")), "duplicate_impression"),
        (GOOD, "duplicate_impression"),
    ],
)
def test_a_bad_impression_is_rejected_as_it_is_and_the_good_one_kept(line: bytes, reason: str) -> None:
    groups, rejects, _ = run([CONTEXT], [GOOD, line])
    assert rejects == {(line, "skeleton", reason): 1}
    assert groups["k", 0]["impression_id"] == ["0"]
    assert groups["k", 0]["impression_lengths"] == [1, 0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"c,0", "too_few_columns"),
        (b"c,1,101\x02\xc3\x031", "invalid_utf8"),
        (context(""), "missing_id"),
        (context("c", b"101\x021"), "bad_token"),
        (context("c", token("101", "1"), count=3), "token_count_mismatch"),
        (context("c", token("101", "1"), token("101", "2")), "several_values"),
        (context("k", token("101", "2")), "duplicate_context"),
    ],
)
def test_a_bad_context_is_rejected_as_it_is_and_the_good_one_kept(line: bytes, reason: str) -> None:
    groups, rejects, grouper = run([CONTEXT, line], [GOOD])
    assert rejects == {(line, "common_features", reason): 1}
    assert list(groups) == [("k", 0)]
    assert grouper.counts.by_reason[0, 0] == 1


def test_a_line_that_looks_like_one_rejected_before_is_kept() -> None:
    bad = impression("1", "k", token("205", "1", "x"))
    good = impression("1", "k", token("205", "2"))
    groups, rejects, _ = run([CONTEXT], [bad, good])
    assert groups["k", 0]["impression_id"] == ["1"]
    assert rejects == {(bad, "skeleton", "bad_token"): 1}


@pytest.mark.parametrize(
    "line",
    [
        impression("1", "k", token("205", "1")) + b"\r",
        impression("an id, no: an id;of\tany \u4e2d alphabet".replace(",", ""), "k"),
        impression("1" * 500, "k"),
        impression("1", "k", token("205", "1", "6.9314718E-1")),
        impression("1", "k", token("205", "1", "+1e0")),
        impression("1", "k"),
        impression("1", "k", token("205", 'a "quoted", value')),
        impression("1", "k", token("nobody knows", "1")),
        impression("1", "k", count="000"),
    ],
)
def test_these_lines_are_tolerated(line: bytes) -> None:
    groups, rejects, _ = run([CONTEXT], [line])
    assert not rejects
    assert groups["k", 0]["impression_id"] == [line.split(b",")[0].decode()]
