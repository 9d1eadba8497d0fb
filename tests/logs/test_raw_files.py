"""Raw files that aren't on this host: looked into as local ones are, where pyarrow can reach them."""

import gzip
from pathlib import Path

import pytest
from pyarrow import fs

from esmm_spark.contracts.errors import InputError
from esmm_spark.files import filesystems
from esmm_spark.logs.raw_files import check_texts

MARK, LINE = b"\xef\xbb\xbf", b"1,0,0,k,0,\n"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serves `far://logs/...` from a folder; no file system serves `farther://`."""
    far = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

    def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
        if uri.startswith("farther://"):
            raise InputError(f"no file system for {uri}")
        assert uri.startswith("far://"), uri
        return far, uri.removeprefix("far://")

    monkeypatch.setattr(filesystems, "filesystem_of", filesystem_of)
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def test_a_byte_order_mark_of_a_remote_file_is_noted(remote: Path) -> None:
    (remote / "a b.csv").write_bytes(MARK + LINE)
    (remote / "b.csv.gz").write_bytes(gzip.compress(MARK + LINE, mtime=0))
    (remote / "c.csv").write_bytes(LINE)
    # As Spark lists them.
    assert check_texts(["far://logs/a%20b.csv", "far://logs/b.csv.gz", "far://logs/c.csv"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            gzip.compress(LINE, mtime=0),
            r"^far://logs/a\.csv is gzip by its first bytes, but not by its name",
        ),
        ("a.csv", LINE.replace(b"\n", b"\r") * 2, r"^far://logs/a\.csv ends its lines by carriage returns"),
        ("a.csv.xz", LINE, r"^far://logs/a\.csv\.xz: \.xz is no compression that Spark reads"),
    ],
)
def test_a_remote_file_that_holds_no_lines_is_told_in_one_line(
    remote: Path, name: str, content: bytes, message: str
) -> None:
    (remote / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        check_texts([f"far://logs/{name}"])


def test_a_file_that_spark_alone_can_reach_is_left_to_it(remote: Path) -> None:
    assert check_texts(["farther://logs/a.csv"]) == 0
