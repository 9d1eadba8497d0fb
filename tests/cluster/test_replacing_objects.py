"""A folder in an object store is replaced, file by file: what readers find after a cut on the way."""

import itertools
import json
import threading
from typing import Any

import pytest
from pyarrow import fs

from esmm_spark.contracts.errors import IncompleteError, InputError, UserError
from esmm_spark.files import filesystems, storage
from esmm_spark.files.replacing import complete, replace_directory, replacing, staging_path
from esmm_spark.files.seals import read_sealed
from tests.cluster.object_store import ObjectStore
from tests.cluster.standalone import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]

NUM_FILES = 3


class _CutOffError(BaseException):
    """The process is gone."""


class _CutOff:
    """A file system on which nothing more is changed after the first `num_changes` changes."""

    def __init__(self, filesystem: fs.FileSystem, left: list[int]) -> None:
        self._filesystem, self._left = filesystem, left

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._filesystem, name)
        if name not in ("copy_file", "delete_file", "delete_dir", "open_output_stream"):
            return method

        def change(*arguments: Any) -> Any:
            if self._left[0] == 0:
                raise _CutOffError
            self._left[0] -= 1
            return method(*arguments)

        return change


def cut_off(patch: pytest.MonkeyPatch, num_changes: int) -> None:
    """Lets this process make so many changes more, and then none."""
    left, filesystem_of = [num_changes], filesystems.filesystem_of

    def limited(uri: str) -> tuple[Any, str]:
        filesystem, path = filesystem_of(uri)
        return _CutOff(filesystem, left), path

    patch.setattr(filesystems, "filesystem_of", limited)


def write_files(folder: str, version: int) -> None:
    """Writes files that say which version they are of, each with a folder of its own."""
    for number in range(NUM_FILES):
        storage.write_text(f"{folder}/part-{number}/x.json", f'{{"version": {version}}}')
    storage.write_text(f"{folder}/x.json", f'{{"version": {version}}}')


def versions_at(folder: str) -> list[int]:
    """Returns the versions that the files of a whole folder say they are of."""
    names = [name for name, _ in storage.list_files(folder, ".json")]
    assert len(names) == NUM_FILES + 1
    return [json.loads(storage.read_text(f"{folder}/{name}"))["version"] for name in names]


@pytest.mark.parametrize("had_one", [True, False])
def test_a_replacement_cut_off_anywhere_leaves_a_whole_folder_or_is_told_and_the_next_completes(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, had_one: bool
) -> None:
    monkeypatch.setattr(storage, "_PATIENCE_S", 0.05)
    seen: set[int | str] = set()
    for num_changes in itertools.count():
        target = f"{store.uri}/cut-{had_one}-{num_changes}/report"
        if had_one:
            with replacing(target, "paths.report", ()) as new:
                write_files(new.folder, 1)
        staged = staging_path(target, "run")
        write_files(staged, 2)
        complete(staged, {})
        was_cut = False
        with monkeypatch.context() as patch:
            cut_off(patch, num_changes)
            try:
                replace_directory(staged, target)
            except _CutOffError:
                was_cut = True
        try:
            storage.require_complete(target, "report", "run it again")
            found = versions_at(target)
            seen.add(found[0])
            assert found in ([1] * len(found), [2] * len(found))
        except IncompleteError:
            seen.add("told")
        except InputError:
            assert not had_one
            seen.add("none")
        with replacing(target, "paths.report", ()) as new:
            write_files(new.folder, 3)
        assert set(versions_at(target)) == {3}
        left = {name.partition("/")[0] for name, _ in storage.list_files(target.rpartition("/")[0])}
        assert left == {"report"}
        if not was_cut:
            break
    assert seen == ({1, 2, "told"} if had_one else {2, "told", "none"})


def test_readers_of_a_folder_that_is_replaced_on_a_store_get_one_version_or_are_told(
    store: ObjectStore,
) -> None:
    target, num_versions = f"{store.uri}/readers/report", 8
    found: list[int] = []
    told: list[str] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                storage.require_complete(target, "report", "run it again")
                found.append(json.loads(read_sealed(f"{target}/x.json", "run it again"))["version"])
            except UserError as error:
                told.append(str(error))

    def replace(version: int) -> None:
        with replacing(target, "paths.report", ()) as new:
            write_files(new.folder, version)
        wait_until(lambda: found[-1:] == [version], f"version {version} is read", timeout_s=60)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for version in range(num_versions):
            replace(version)
    finally:
        ended.set()
        reader.join()
    assert found == sorted(found)
    assert all("try again" in line or "run it again" in line or "no file at" in line for line in told)
