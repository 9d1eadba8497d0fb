"""What docs/line-format.md says, where no other test holds it. Without Spark."""

from pathlib import Path

import pytest

from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.logs.heads import BYTE_ORDER_MARKS
from esmm_spark.logs.reasons import reason_names
from tests.samples.grouping.test_grouper import run
from tests.samples.raw_lines import context, impression, token

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONTEXT = context("k")


def reason_of(line: bytes) -> str:
    groups, rejects, _ = run([CONTEXT], [line])
    assert len(groups) + len(rejects) == 1
    return next((reason for _, _, reason in rejects), "accepted")


@pytest.mark.parametrize("weight", ["1", "5.", ".5", "+1e0", "-6.9E-1", "1e-60", "0" * 400, "3.4e38"])
def test_a_weight_is_a_decimal_number(weight: str) -> None:
    assert reason_of(impression("1", "k", token("205", "1", weight))) == "accepted"


@pytest.mark.parametrize(
    "weight", ["", "inf", "nan", "1_000", "0x1", " 1", "1 ", "1,5", "1e39", "e1", ".", "1e", "--1", "\u0661"]
)
def test_nothing_else_is_a_weight(weight: str) -> None:
    assert reason_of(impression("1", "k", token("205", "1", weight))) == "bad_token"


@pytest.mark.parametrize("count", ["+1", "-1", " 1", "1 ", "1.0", "", "1e0", "\u0661", "2"])
def test_a_count_is_ascii_digits_alone(count: str) -> None:
    assert reason_of(impression("1", "k", token("205", "1"), count=count)) == "token_count_mismatch"
    assert reason_of(impression("1", "k", token("205", "1"), count="0001")) == "accepted"


@pytest.mark.parametrize("value", ["\x00", " ", "\t", '"', "a,b", "\x04", "\x1f", "\u2028", "\ufeff"])
def test_a_value_holds_any_character_but_the_separators(value: str) -> None:
    assert reason_of(impression("1", "k", token("205", value))) == "accepted"


@pytest.mark.parametrize("separator", ["\x01", "\x02", "\x03"])
def test_a_value_with_a_separator_is_no_token(separator: str) -> None:
    assert reason_of(impression("1", "k", token("205", f"a{separator}b"))) == "bad_token"


def test_nothing_is_trimmed_but_a_carriage_return_at_the_end_of_a_line() -> None:
    ids = ["11", " 11", "11 ", "0011", '"11"', "\t11", "\r11"]
    groups, rejects, _ = run([CONTEXT + b"\r"], [impression(each, "k") + b"\r" for each in ids])
    assert not rejects
    assert sorted(groups["k", 0]["impression_id"]) == sorted(ids)
    for label in (" 0", "0 ", "00", "1.0", "+0", "true"):
        assert reason_of(impression("1", "k", click=label)) == "bad_label"
    for key in (" k", "k ", "K"):
        assert reason_of(impression("1", key)) == "unknown_context"


def test_the_page_names_what_the_code_does() -> None:
    page = (DOCS / "line-format.md").read_text(encoding="utf-8")
    told_elsewhere = {"accepted", "unknown_context", "duplicate_impression", "duplicate_context"}
    for reason in {
        *filter(None, reason_names(DEFAULT_TASKS)),
        BYTE_ORDER_MARKS,
        "blank_lines",
        "unknown_tokens",
    } - told_elsewhere:
        assert f"`{reason}`" in page, reason
    for page_that_links in (DOCS / "architecture.md", DOCS / "events.md", DOCS.parent / "README.md"):
        assert "line-format.md" in page_that_links.read_text(encoding="utf-8"), page_that_links
