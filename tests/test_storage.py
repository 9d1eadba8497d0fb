"""Folders that are replaced whole, and what is refused."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Timer
from time import sleep

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


def test_a_kill_between_the_two_renames_is_mended_by_the_next_writer(tmp_path: Path) -> None:
    target = str(tmp_path / "dataset")
    write_folder(tmp_path / "dataset", "old")
    storage.move(target, str(tmp_path / ".dataset.previous"))
    storage.recover(target)
    storage.require_complete(target, "dataset", "preprocess")
    assert storage.read_text(storage.join(target, "data")) == "old"


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
    write_folder(tmp_path / ".dataset.staging", "new")
    second = Timer(0.3, storage.move, (storage.staging_path(target), target))
    second.start()
    storage.require_complete(target, "dataset", "preprocess")
    second.join()
    assert storage.read_text(storage.join(target, "data")) == "new"


def test_readers_never_disturb_a_writer_that_replaces_a_folder_again_and_again(tmp_path: Path) -> None:
    target = str(tmp_path / "dataset")
    write_folder(tmp_path / "dataset", "old")
    is_over = Event()

    def read() -> int:
        num_reads = 0
        while not is_over.is_set():
            storage.require_complete(target, "dataset", "preprocess")
            num_reads += 1
        return num_reads

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for version in range(50):
                # A reader that sleeps through one replacement and wakes in the next is told to try again.
                sleep(0.01)
                write_folder(Path(storage.staging_path(target)), str(version))
                storage.replace_directory(target)
        finally:
            is_over.set()
        assert all(reader.result() > 0 for reader in readers)
    assert storage.read_text(storage.join(target, "data")) == "49"


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
