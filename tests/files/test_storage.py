"""What a reader may take for whole, and what is refused."""

from pathlib import Path
from threading import Timer

import pytest

from esmm_spark.contracts.errors import IncompleteError, InputError, UnsafeFileError
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import storage


def write_folder(path: Path, content: str) -> None:
    path.mkdir(parents=True)
    (path / "data").write_text(content)
    (path / MARKER).write_text("")


def test_a_reader_renames_nothing_and_says_that_the_folder_is_being_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_PATIENCE_S", 0.0)
    write_folder(tmp_path / ".dataset.previous", "old")
    with pytest.raises(
        IncompleteError, match=r"/dataset is being replaced, or .*: try again .* run that job"
    ):
        storage.require_complete(str(tmp_path / "dataset"), "dataset", "preprocess")
    assert [path.name for path in tmp_path.iterdir()] == [".dataset.previous"]


def test_a_reader_that_comes_between_the_two_renames_waits_for_the_second(tmp_path: Path) -> None:
    target = str(tmp_path / "dataset")
    write_folder(tmp_path / ".dataset.previous", "old")
    write_folder(tmp_path / ".dataset.run.staging", "new")
    second = Timer(0.3, storage.move, (str(tmp_path / ".dataset.run.staging"), target))
    second.start()
    storage.require_complete(target, "dataset", "preprocess")
    second.join()
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
