import os
from pathlib import Path

import pytest

from esmm_spark.contracts.errors import InputError
from esmm_spark.files.fingerprints import fingerprints_at, fingerprints_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "a/part-0.csv",
        "a/part-1.csv",
        "b/part-0.csv",
        "b/deep/part-2.txt",
        "a/_SUCCESS",
        "a/.part-0.crc",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a", ["a/part-0.csv", "a/part-1.csv"]),
        ("a/part-1.csv", ["a/part-1.csv"]),
        ("*/part-0.csv", ["a/part-0.csv", "b/part-0.csv"]),
        ("a/part-?.csv", ["a/part-0.csv", "a/part-1.csv"]),
        ("a/part-[1-9].csv", ["a/part-1.csv"]),
        ("a/part-[^1-9].csv", ["a/part-0.csv"]),
        ("{a,b}/part-0.*", ["a/part-0.csv", "b/part-0.csv"]),
        ("b*", ["b/deep/part-2.txt", "b/part-0.csv"]),
        ("b/*/*", ["b/deep/part-2.txt"]),
    ],
)
def test_files_folders_and_globs_are_found_as_spark_reads_them(
    folder: Path, pattern: str, names: list[str]
) -> None:
    found = fingerprints_at(str(folder / pattern))
    assert [path for path, _, _ in found] == [str(folder / name) for name in names]
    assert [size for _, size, _ in found] == [len(name) for name in names]
    assert found == fingerprints_at(str(folder / pattern))


def test_a_file_whose_name_has_glob_characters_is_itself(folder: Path) -> None:
    (folder / "part[0].csv").write_text("x")
    assert [path for path, _, _ in fingerprints_at(str(folder / "part[0].csv"))] == [
        str(folder / "part[0].csv")
    ]


@pytest.mark.parametrize("pattern", ["c", "a/*.txt", "a/_SUCCESS*"])
def test_no_file_is_an_error(folder: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="no file at"):
        fingerprints_at(str(folder / pattern))


def test_a_file_written_again_has_another_fingerprint(folder: Path) -> None:
    file = folder / "a/part-0.csv"
    before = fingerprints_of("dataset d", [str(file)])
    assert fingerprints_of("dataset d", [str(file)]) == before
    os.utime(file, ns=(0, before[0][2] + 1))
    assert fingerprints_of("dataset d", [str(file)]) != before


def test_missing_and_empty_files_are_named(folder: Path) -> None:
    file = folder / "a/part-0.csv"
    file.write_text("")
    with pytest.raises(InputError, match=r"part-0.csv: it is truncated, to 0 bytes: write dataset d again"):
        fingerprints_of("dataset d", [str(file)])
    file.unlink()
    with pytest.raises(InputError, match=r"part-0.csv is missing, dataset d should have it"):
        fingerprints_of("dataset d", [str(file)])
