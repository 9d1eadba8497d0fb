"""Ranges of plain CSV files against Python's own reader."""

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esmm_spark.tables import plain_csv
from esmm_spark.tables.plain_csv import CsvRange, NotPlainError, csv_ranges, read_csv_range

values = st.text(st.characters(codec="utf-8", exclude_characters='"\r\n\0;'), max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.tuples(values, values, values), max_size=30),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    ends_whole=st.booleans(),
    range_bytes=st.integers(1, 60),
    block_bytes=st.integers(1, 60),
)
@pytest.mark.slow
def test_ranges_have_each_line_once_wherever_they_are_cut(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[tuple[str, str, str]],
    end: str,
    ends_whole: bool,
    range_bytes: int,
    block_bytes: int,
) -> None:
    monkeypatch.setattr(plain_csv, "_RANGE_BYTES", range_bytes)
    monkeypatch.setattr(plain_csv, "_BLOCK_BYTES", block_bytes)
    texts = ["a;b;c", *(";".join(line) for line in lines)]
    path = tmp_path / "log.csv"
    path.write_bytes((end.join(texts) + (end if ends_whole else "")).encode())
    whole = CsvRange(str(path), 0, path.stat().st_size, None, ("a", "b", "c"), True, ";")
    found, size = [], 0
    for span in csv_ranges(whole):
        for batch, num_bytes in read_csv_range(span, ["b", "c"]):
            found += batch.to_pylist()
            size += num_bytes
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";", quoting=csv.QUOTE_NONE))
    assert found == [{"b": row["b"] or None, "c": row["c"] or None} for row in rows]
    assert size == whole.end


@pytest.mark.parametrize("line", [b'1;"2";3', b"1;2", b"1;2;3;4", b"1;\xff;3", b"1;2;3\r4;5;6", b"1;\0;3"])
def test_what_takes_more_than_cutting_lines_is_not_plain(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"a;b;c\n1;2;3\n" + line + b"\n")
    span = CsvRange(str(path), 0, path.stat().st_size, None, ("a", "b", "c"), True, ";")
    with pytest.raises(NotPlainError):
        list(read_csv_range(span, ["a", "b"]))
