"""The grouping kernel against plain Python, without Spark."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import DEFAULT_COLUMNS
from esmm_spark.logs.lines import lines_of
from esmm_spark.logs.reasons import reason_names
from esmm_spark.samples.grouping.grouper import Grouper, rejected_lines
from tests.samples.join_oracle import Groups, Rejects, group, groups_of
from tests.samples.raw_lines import SPEC, context, impression, token

REASONS = reason_names(DEFAULT_COLUMNS.tasks)
KEYS = ["k", "k1", "key \u00e9\u20ac\U0001f600", "-1"]
IDS = ["1", "2", "10", "id;x", "\u00fc"]
WEIGHTS = [
    "1",
    "0.5",
    "1e-3",
    "2.5E+1",
    ".5",
    "5.",
    "-0.69315",
    "1e39",
    "nan",
    "",
    "0x1",
    "1_0",
    "3.4028235e38",
]
FIELDS = ["101", "109", "205", "301", "999", ""]
VALUES = ["7", "x", "34,5", "caf\u00e9", "", "a" * 40]

tokens = st.builds(token, st.sampled_from(FIELDS), st.sampled_from(VALUES), st.sampled_from(WEIGHTS))
good_context_tokens = st.builds(
    lambda user, items: [token("101", str(u)) for u in user] + [token("109", str(i), w) for i, w in items],
    st.lists(st.integers(0, 9), max_size=1),
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["1", "0.25", "1e-2"])), max_size=4),
)
good_impression_tokens = st.builds(
    lambda item, positions: [token("205", i) for i in item] + [token("301", str(p)) for p in positions],
    st.lists(st.sampled_from(["7", "34,5", "caf\u00e9"]), max_size=1),
    st.lists(st.integers(0, 3), max_size=3),
)
counts = st.sampled_from([None, None, None, None, None, 0, 1, "", "x", "-1"])
labels = st.sampled_from([0, 0, 0, 1, 1, "", "2", "01"])


def _dirtied(line: bytes, how: str, at: int) -> bytes:
    at %= len(line) + 1
    dirtied = {"cut": line[:at], "crlf": line + b"\r", "bytes": line[:at] + b"\xff" + line[at:]}
    return dirtied.get(how, line)


def dirty(lines: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Now and then cuts a line, ends it with a carriage return, or puts in a byte that is no UTF-8."""
    return st.builds(
        _dirtied,
        lines,
        st.sampled_from(["", "", "", "", "", "", "cut", "crlf", "bytes"]),
        st.integers(0, 200),
    )


contexts = dirty(
    st.one_of(
        st.builds(lambda key, tokens: context(key, *tokens), st.sampled_from(KEYS), good_context_tokens),
        st.builds(
            lambda key, tokens, count: context(key, *tokens, count=count),
            st.sampled_from([*KEYS, ""]),
            st.lists(tokens, max_size=3),
            counts,
        ),
    )
)
impressions = dirty(
    st.one_of(
        st.builds(
            lambda i, key, tokens, click, conversion: impression(
                i, key, *tokens, click=click, conversion=click * conversion
            ),
            st.sampled_from([*IDS, *map(str, range(100, 130))]),
            st.sampled_from(KEYS),
            good_impression_tokens,
            st.integers(0, 1),
            st.integers(0, 1),
        ),
        st.builds(
            lambda i, key, tokens, click, conversion, count: impression(
                i, key, *tokens, click=click, conversion=conversion, count=count
            ),
            st.sampled_from([*IDS, ""]),
            st.sampled_from([*KEYS, "nobody", ""]),
            st.lists(tokens, max_size=3),
            labels,
            labels,
            counts,
        ),
    )
)


def run(
    context_lines: Sequence[bytes],
    impression_lines: Sequence[bytes],
    spec: FeatureSpec = SPEC,
    max_group_size: int = 256,
    labels_required: bool = True,
    capacity: int = 4096,
    batch_size: int = 1000,
) -> tuple[Groups, Rejects, Grouper]:
    """Sorts lines as Spark does, and groups them; ids under several contexts aren't looked for."""
    lines = [(line.split(b",")[0], 0, line) for line in context_lines]
    lines += [((line.split(b",") + [b""] * 4)[3], 1, line) for line in impression_lines]
    lines.sort()
    grouper = Grouper(spec, DEFAULT_COLUMNS, {}, max_group_size, labels_required, capacity)
    examples: list[dict[str, Any]] = []
    rejects: Rejects = Counter()
    for start in range(0, len(lines), batch_size):
        of_batch = lines[start : start + batch_size]
        batch = pa.record_batch(
            [
                pa.array([kind for _, kind, _ in of_batch], type=pa.int8()),
                pa.array([line for *_, line in of_batch], type=pa.binary()),
            ],
            names=["kind", "line"],
        )
        of_kernel = lines_of(batch)
        examples += list(grouper.take(of_kernel))
        for row in rejected_lines(of_kernel).to_pylist():
            source = "skeleton" if row["kind"] else "common_features"
            rejects[row["line"], source, REASONS[row["reason"]]] += 1
    examples += list(grouper.finish())
    return groups_of(pa.Table.from_batches(examples, grouper.schema)), rejects, grouper


def without_repeated_ids(lines: list[bytes]) -> list[bytes]:
    """Keeps an id under one context only: the others are a matter of Spark (`samples/repeated.py`)."""
    key_of_id: dict[bytes, bytes] = {}
    kept = []
    for line in lines:
        columns = line.split(b",") + [b""] * 4
        if key_of_id.setdefault(columns[0], columns[3]) == columns[3]:
            kept.append(line)
    return kept


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(contexts, max_size=8),
    st.lists(impressions, max_size=25).map(without_repeated_ids),
    st.integers(1, 6),
    st.booleans(),
    st.sampled_from([64, 300, 1 << 16]),
    st.sampled_from([1, 3, 1000]),
)
@pytest.mark.slow
def test_groups_and_rejects_are_those_of_the_plain_join(
    context_lines: list[bytes],
    impression_lines: list[bytes],
    max_group_size: int,
    labels_required: bool,
    capacity: int,
    batch_size: int,
) -> None:
    context_lines = [line for line in context_lines if line not in (b"", b"\r")]
    impression_lines = [line for line in impression_lines if line not in (b"", b"\r")]
    found, found_rejects, _ = run(
        context_lines, impression_lines, SPEC, max_group_size, labels_required, capacity, batch_size
    )
    expected, rejects = group(context_lines, impression_lines, SPEC, max_group_size, labels_required)
    assert found == expected
    assert found_rejects == rejects


def test_a_group_longer_than_a_batch_and_the_buffers_streams_through() -> None:
    tokens = [token("205", "7"), token("301", "1"), token("301", "2")]
    lines = [impression(f"{i:06d}", "k", *tokens) for i in range(5000)]
    found, _, grouper = run([context("k", token("101", "u"))], lines, max_group_size=100, batch_size=700)
    assert [len(found["k", part]["impression_id"]) for part in range(50)] == [100] * 50
    assert len(grouper._groups.id_bytes) < 20_000, "room for one part, not for the group"


def test_a_line_longer_than_the_buffers_finds_room() -> None:
    tokens = [token("109", str(value)) for value in range(30_000)]
    found, rejects, _ = run([context("k", *tokens)], [impression("1", "k")])
    assert found["k", 0]["context_lengths"] == [0, 30_000]
    assert not rejects


def test_contexts_without_impressions_are_counted() -> None:
    lines = [context("a"), context("b"), context("c")]
    _, _, grouper = run(lines, [impression("1", "b"), impression("2", "c", click=2)])
    assert grouper.counts.idle_contexts[0] == 2


def test_tokens_of_fields_outside_the_spec_are_counted_by_file() -> None:
    contexts = [context("a", token("101", "1"), token("205", "1"), token("x", "1"))]
    _, _, grouper = run(contexts, [impression("1", "a", token("101", "1"))])
    assert grouper.counts.unknown_tokens.tolist() == [2, 1]


def test_an_unpooled_field_keeps_the_first_max_length_tokens_of_a_line_in_their_order() -> None:
    """Repeated values stay apart; what is cut is counted, once for a context of several parts."""
    content = SPEC.model_dump()
    content["fields"][1] |= {"pooling": "none", "max_length": 3}
    spec = FeatureSpec.model_validate(content)
    history = [token("109", value, weight) for value, weight in zip("92999", "12345", strict=True)]
    lines = [
        context("k", history[0], token("101", "u"), *history[1:]),
        context("l", *history[:2]),
        context("m"),
    ]
    shown = [impression("1", "k"), impression("2", "k"), impression("3", "l"), impression("4", "m")]
    found, rejects, grouper = run(lines, shown, spec, max_group_size=1)
    whole, _, _ = run(lines, shown, SPEC, max_group_size=1)
    assert not rejects
    for part in (0, 1):
        assert found["k", part]["context_lengths"] == [1, 3]
        assert found["k", part]["context_rows"] == whole["k", part]["context_rows"][:4]
        assert found["k", part]["context_weights"] == [1, 1, 2, 3]
    assert len({*whole["k", 0]["context_rows"][1:]}) == 2
    assert found["l", 0] == whole["l", 0]
    assert found["m", 0]["context_lengths"] == [0, 0]
    assert grouper.counts.cut_tokens.tolist() == [2]


def test_unlabelled_impressions_have_null_labels() -> None:
    lines = [
        impression("1", "k", click="", conversion=""),
        impression("2", "k", click=1),
        impression("3", "k", click=1, conversion=""),
        impression("4", "k", click=0, conversion=""),
    ]
    found, rejects, _ = run([context("k")], lines, labels_required=False)
    assert found["k", 0]["click"] == [None, 1, 1, 0]
    assert found["k", 0]["conversion"] == [None, 0, None, None]
    assert not rejects
    bad = [impression("1", "k", click="", conversion=0), impression("2", "k", click=2, conversion="")]
    _, rejects, _ = run([context("k")], bad, labels_required=False)
    assert rejects == {(line, "skeleton", "bad_label"): 1 for line in bad}
    _, rejects, _ = run([context("k")], lines[2:])
    assert rejects == {(line, "skeleton", "bad_label"): 1 for line in lines[2:]}


@pytest.mark.parametrize(("num_buckets", "dtype"), [(1 << 20, np.int32), (1 << 31, np.int64)])
def test_rows_are_bigint_once_the_arena_needs_it(num_buckets: int, dtype: type) -> None:
    spec = FeatureSpec.model_validate(
        {
            "tables": {"first": {"num_buckets": num_buckets}, "second": {"num_buckets": 10}},
            "fields": [
                {"name": "a", "level": "context", "table": "first"},
                {"name": "b", "level": "impression", "table": "second"},
            ],
        }
    )
    found, _, grouper = run([context("k", token("a", "1"))], [impression("1", "k", token("b", "1"))], spec)
    assert (
        found == group([context("k", token("a", "1"))], [impression("1", "k", token("b", "1"))], spec, 256)[0]
    )
    assert grouper.schema.field("impression_rows").type.value_type == pa.from_numpy_dtype(dtype)
    assert found["k", 0]["impression_rows"][0] > num_buckets
