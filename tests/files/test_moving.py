"""Folders are replaced whole in an object store, too, where each file is moved for itself."""

from collections import Counter
from contextlib import suppress
from itertools import count

import pyarrow as pa
import pytest
from pyarrow import fs

from esmm_spark.contracts.errors import IncompleteError, InputError
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import filesystems, moving, storage
from esmm_spark.files.replacing import recover, replacing
from tests.files.object_store import Killed, ObjectStore

TARGET = "mem://bucket/dataset"
FILES = ("a/1", "a/_SUCCESS", "b/c/2", "b/_SUCCESS", "3")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An object store under mem://; readers don't wait, copies are made one after another."""
    objects = ObjectStore()
    filesystem = fs.PyFileSystem(objects)
    monkeypatch.setattr(filesystems, "filesystem_of", lambda uri: (filesystem, uri.removeprefix("mem://")))
    monkeypatch.setattr(storage, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(storage, "_PAUSE_S", 0.0)
    monkeypatch.setattr(moving, "COPIES_AT_ONCE", 1)
    return objects


def publish(version: str) -> None:
    """What each writer does."""
    with replacing(TARGET, "paths.dataset", ()) as new:
        for name in FILES:
            storage.write_text(storage.join(new.folder, name), version)
        new.files = FILES


def forget_leases(store: ObjectStore) -> None:
    for name in [name for name in store.objects if ".lease/" in name]:
        del store.objects[name]


def read() -> str | None:
    """Returns the version that a reader finds, or None where it is told to wait; all files must be of it."""
    try:
        storage.require_complete(TARGET, "dataset", "write it")
    except (IncompleteError, InputError):
        return None
    names = {name for name, _ in storage.list_files(TARGET)}
    assert names == {*FILES, MARKER}
    (version,) = {storage.read_text(storage.join(TARGET, name)) for name in FILES}
    return version


def test_a_folder_takes_the_place_of_the_old_one_and_nothing_else_is_left(store: ObjectStore) -> None:
    for version in ("old", "new"):
        publish(version)
        assert read() == version
    files = {name for name in store.objects if not name.endswith("/")}
    assert files == {f"bucket/dataset/{name}" for name in (*FILES, MARKER)}


def test_the_marker_is_copied_last_and_deleted_first(store: ObjectStore) -> None:
    for name in (MARKER, *FILES):
        storage.write_text(storage.join("mem://bucket/from", name), "x")
    store.steps.clear()
    storage.move("mem://bucket/from", "mem://bucket/to")
    names = [f"bucket/from/{name}" for name in (*FILES, MARKER)]
    copies, deletes = store.steps[: len(names)], store.steps[len(names) :]
    assert Counter(copies) == Counter(f"copy {name}" for name in names)
    assert all(name.endswith(MARKER) for name in copies[-3:])
    assert copies[-1] == "copy bucket/from/_SUCCESS"
    assert deletes[0] == "delete bucket/from/_SUCCESS"
    assert not storage.exists("mem://bucket/from")


def test_what_stands_at_the_target_is_deleted_before_a_folder_is_copied(store: ObjectStore) -> None:
    storage.write_text("mem://bucket/to/old", "x")
    storage.write_text("mem://bucket/from/new", "x")
    storage.move("mem://bucket/from", "mem://bucket/to")
    assert storage.list_files("mem://bucket/to") == [("new", 1)]


@pytest.mark.slow
def test_wherever_a_writer_is_killed_a_reader_sees_one_whole_version_or_none_and_it_can_be_run_again(
    store: ObjectStore,
) -> None:
    seen = set()
    for steps in count():
        store.objects.clear()
        store.steps_until_killed = -1
        publish("old")
        store.steps_until_killed = steps
        try:
            publish("new")
        except Killed:
            # Its lease is that of a dead process now.
            forget_leases(store)
        else:
            break
        # However often the writer is killed while it mends what the first kill left.
        for more in range(3):
            store.steps_until_killed = 4 * more
            with suppress(Killed):
                recover(TARGET)
            seen.add(read())
        store.steps_until_killed = -1
        recover(TARGET)
        assert read() in {"old", "new"}, f"nothing is left after {steps} steps"
        publish("newer")
        assert read() == "newer"
    assert seen == {"old", "new", None}


def test_a_file_too_large_for_the_store_to_copy_goes_through_this_process(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_MAX_COPY_BYTES", 3)
    storage.write_text("mem://bucket/from/small", "123")
    storage.write_text("mem://bucket/from/large", "1234")
    store.steps.clear()
    storage.move("mem://bucket/from", "mem://bucket/to")
    assert set(store.steps[:2]) == {"copy bucket/from/small", "write bucket/to/large"}
    assert storage.read_text("mem://bucket/to/large") == "1234"


def test_a_file_whose_writer_fails_stays_as_it_was(store: ObjectStore) -> None:
    def fail() -> None:
        with storage.writing("mem://bucket/file") as stream:
            stream.write(b"ne")
            raise ValueError("full")

    storage.write_text("mem://bucket/file", "old")
    with pytest.raises(ValueError, match="full"):
        fail()
    assert storage.read_text("mem://bucket/file") == "old"


def test_an_empty_folder_can_be_deleted(store: ObjectStore) -> None:
    storage.make_directory("mem://bucket/empty")
    storage.delete("mem://bucket/empty")
    storage.delete("mem://bucket/empty")
    assert not storage.exists("mem://bucket/empty")


def test_an_object_that_is_deleted_while_it_is_open_is_told_as_one_that_is_not_there(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.objects["bucket/x"] = b"content"
    opened = store.open_input_stream

    def deleted_since(path: str) -> pa.NativeFile:
        opened(path)
        del store.objects[path]
        raise OSError("AWS Error NO_SUCH_KEY during GetObject operation")

    monkeypatch.setattr(store, "open_input_stream", deleted_since)
    with pytest.raises(InputError, match="no file at mem://bucket/x"):
        storage.read_bytes("mem://bucket/x")
