"""What a reader may take for whole, and what is refused."""

import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from esmm_spark.contracts.errors import IncompleteError, InputError, UnsafeFileError
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import storage
from esmm_spark.files.lease import leased


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


@pytest.fixture
def umask_027() -> Iterator[None]:
    """What is written meanwhile is not for everyone."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask_027")
def test_files_and_folders_have_the_users_umask(tmp_path: Path) -> None:
    storage.write_text(str(tmp_path / "a/b/file"), "x")
    with leased(str(tmp_path / "lease"), "paths.dataset") as lease:
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
        assert lease.holder
    assert modes == {"a": 0o750, "b": 0o750, "file": 0o640, "lease": 0o640}


def test_a_file_that_is_replaced_has_the_mode_of_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o600)
    storage.write_text(str(tmp_path / "file"), "x")
    (tmp_path / "new").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_temporary_file_is_never_one_that_stands_there(tmp_path: Path) -> None:
    """A link under a name that could be known before would lead the writer to another's file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    names = iter(["0" * 16, "1" * 16])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f".file.{'0' * 16}.tmp").symlink_to(victim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_hex", lambda number: next(names))
        with pytest.raises(FileExistsError):
            storage.write_text(str(folder / "file"), "x")
        storage.write_text(str(folder / "file"), "x")
    assert (victim.read_text(), (folder / "file").read_text()) == ("precious", "x")


def test_two_writers_of_one_file_do_not_mix_and_the_last_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with storage.writing(str(file)) as first:
        first.write(b"first " * 1000)
        with storage.writing(str(file)) as second:
            second.write(b"second")
        assert file.read_bytes() == b"second"
    assert file.read_bytes() == b"first " * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_writer_that_fails_leaves_what_was_there_and_no_temporary_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")

    def fail() -> None:
        with storage.writing(str(file)) as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "before")]
