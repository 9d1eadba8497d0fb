"""Small files whose folder's marker has their SHA-256: a flipped bit is told, in one line."""

import hashlib
import json
import time
from pathlib import Path

import pytest

from esmm_spark.contracts.errors import InputError
from esmm_spark.files import seals
from esmm_spark.files.replacing import complete
from tests.flipped_bits import flips_of


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(seals, "_PAUSE_S", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_text('{"seed": 42}')
    (tmp_path / "b.yaml").write_text("seed: 42\n")
    (tmp_path / "part.parquet").write_bytes(b"PAR1")
    complete(str(tmp_path), {"known.parquet": "0" * 64})
    return tmp_path


def test_the_marker_lists_the_sha256_of_records_and_of_files_that_are_known(folder: Path) -> None:
    records = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("a.json", "b.yaml")
    }
    listed = json.loads((folder / "_SUCCESS").read_text())["sha256"]
    assert listed == {**records, "known.parquet": "0" * 64}


@pytest.mark.parametrize("name", ["a.json", "b.yaml"])
def test_a_flipped_bit_of_a_record_is_told_in_one_line(folder: Path, name: str) -> None:
    uri = str(folder / name)
    for _ in flips_of(folder / name, 100):
        with pytest.raises(
            InputError, match=rf"^\S+{name} has another SHA-256 than in \S+_SUCCESS: .*: mend it$"
        ):
            seals.read_sealed(uri, "mend it")
    assert seals.read_sealed(uri, "mend it") == (folder / name).read_bytes()


def test_a_flipped_bit_of_the_marker_never_lets_another_content_through(folder: Path) -> None:
    content, told = (folder / "a.json").read_bytes(), 0
    for _ in flips_of(folder / "_SUCCESS", 1000):
        try:
            assert seals.read_sealed(str(folder / "a.json"), "mend it") == content
        except InputError:
            told += 1
    # Those in the file's own line, and those that leave no line to read.
    assert told >= 60


def test_files_of_a_folder_whose_marker_is_empty_are_taken_as_they_are(folder: Path) -> None:
    (folder / "_SUCCESS").write_text("")
    (folder / "a.json").write_text("{}")
    assert seals.read_sealed(str(folder / "a.json"), "") == b"{}"
    seals.verify(str(folder), ["part.parquet"], "")


def test_a_file_that_the_marker_does_not_list_is_refused(folder: Path) -> None:
    (folder / "c.json").write_text("{}")
    with pytest.raises(InputError, match=r"c\.json is not listed in .*_SUCCESS"):
        seals.read_sealed(str(folder / "c.json"), "mend it")


def test_a_folder_that_is_just_being_replaced_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "_PATIENCE_S", 10.0)
    (folder / "a.json").write_text("{}")
    monkeypatch.setattr(time, "sleep", lambda _: seals.seal(str(folder), (".json",)))
    assert seals.read_sealed(str(folder / "a.json"), "") == b"{}"


def test_verified_files_are_compared_with_the_marker(folder: Path) -> None:
    seals.seal(str(folder), suffixes=(".parquet",))
    seals.verify(str(folder), ["part.parquet"], "mend it")
    for _ in flips_of(folder / "part.parquet", 4):
        with pytest.raises(InputError, match=r"part\.parquet has another SHA-256 .*: mend it"):
            seals.verify(str(folder), ["part.parquet"], "mend it")
