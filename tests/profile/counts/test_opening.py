"""Formats and day folders by looking at a path."""

from pathlib import Path

import pytest

from esmm_spark.contracts.errors import InputError
from esmm_spark.profile.counts.opening import guess_table
from tests.tables.small_tables import write_table

LINES = [{"user": 1, "click": 0}, {"user": 2, "click": 1}]


@pytest.mark.parametrize(
    ("name", "file_format", "delimiter"),
    [
        ("log.parquet", "parquet", ","),
        ("log.csv", "csv", ","),
        ("log.tsv", "csv", "\t"),
        ("log.json", "json", ","),
        ("ds=20261123/log.csv", "csv", ","),
    ],
)
def test_a_path_tells_its_format(tmp_path: Path, name: str, file_format: str, delimiter: str) -> None:
    write_table(tmp_path / "log" / name, LINES, delimiter)
    table = guess_table(str(tmp_path / "log"))
    assert (table.file_format, table.delimiter) == (file_format, delimiter)
    assert table.day_folders == ("ds" if name.startswith("ds=") else None)


def test_a_file_that_begins_with_numbers_needs_names(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("1,0,3.5\n2,1,4\n")
    with pytest.raises(InputError, match="begins with numbers, not with the names of its columns"):
        guess_table(str(path))


def test_a_file_of_no_format_is_told_with_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("hello\n")
    with pytest.raises(InputError, match=r"neither Parquet, JSON lines nor CSV: its first line is 'hello'"):
        guess_table(str(path))
