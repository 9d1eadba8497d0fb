"""Folders that are replaced whole, and what is refused."""

from pathlib import Path

import pytest

from esmm_spark import storage
from esmm_spark.errors import IncompleteError, InputError, UnsafeFileError


def write_folder(path: Path, content: str) -> None:
    path.mkdir(parents=True)
    (path / "data").write_text(content)
    (path / storage.MARKER).write_text("")


def test_a_staged_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = str(tmp_path / "dataset")
    for content in ("old", "new"):
        write_folder(Path(storage.staging_path(target)), content)
        storage.replace_directory(target)
        assert storage.read_text(storage.join(target, "data")) == content
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_a_kill_between_the_two_renames_is_mended(tmp_path: Path) -> None:
    target = str(tmp_path / "dataset")
    write_folder(tmp_path / "dataset", "old")
    storage.move(target, str(tmp_path / ".dataset.previous"))
    storage.require_complete(target, "dataset", "preprocess")
    assert storage.read_text(storage.join(target, "data")) == "old"


def test_a_kill_before_the_old_folder_is_deleted_leaves_the_new_one(tmp_path: Path) -> None:
    target = str(tmp_path / "dataset")
    write_folder(tmp_path / "dataset", "new")
    write_folder(tmp_path / ".dataset.previous", "old")
    storage.recover(target)
    assert storage.read_text(storage.join(target, "data")) == "new"


def test_missing_and_half_written_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no dataset at .*/none: run it"):
        storage.require_complete(str(tmp_path / "none"), "dataset", "run it")
    (tmp_path / "half").mkdir()
    with pytest.raises(IncompleteError, match="half-written"):
        storage.require_complete(str(tmp_path / "half"), "dataset", "run it")


@pytest.mark.parametrize("name", ["_common_metadata", "_metadata", "model.pt", "deep/er/x.pickle"])
def test_a_file_that_can_hold_a_pickle_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "dataset" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"cos\nsystem\n.")
    with pytest.raises(UnsafeFileError, match=name):
        storage.refuse_pickles(str(tmp_path / "dataset"), "dataset")


def test_an_unknown_scheme_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no file system for nosuch://x/y"):
        storage.exists("nosuch://x/y")


def test_listing_is_sorted_and_relative(tmp_path: Path) -> None:
    for name in ("b/2.parquet", "a/1.parquet", "a/x.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12345")
    assert storage.list_files(str(tmp_path), ".parquet") == [("a/1.parquet", 5), ("b/2.parquet", 5)]
    assert storage.list_directories(str(tmp_path)) == ["a", "b"]


def test_a_folder_that_holds_anything_foreign_is_not_replaced(tmp_path: Path) -> None:
    ours = ("examples", storage.MARKER)
    storage.require_own_folder(str(tmp_path / "none"), "paths.dataset", ours)
    write_folder(tmp_path / "dataset" / "examples", "x")
    storage.require_own_folder(str(tmp_path / "dataset"), "paths.dataset", ours)
    (tmp_path / "dataset" / "raw").mkdir()
    with pytest.raises(InputError, match=r"paths\.dataset .*/dataset holds raw, which would be deleted"):
        storage.require_own_folder(str(tmp_path / "dataset"), "paths.dataset", ours)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"paths\.dataset .*/file is a file: name a folder"):
        storage.require_own_folder(str(tmp_path / "file"), "paths.dataset", ours)
