import os
from pathlib import Path

import pytest
from pyarrow import fs

from esmm_spark.contracts.errors import IncompleteError, InputError, UnsafeFileError
from esmm_spark.files import filesystems
from esmm_spark.files.local_copy import localize


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serves `far://models/...` from a folder, as a file system that is not local."""
    folder = tmp_path / "far"
    (folder / "models/v1/embedding").mkdir(parents=True)
    (folder / "models/v1/model.json").write_text("{}")
    (folder / "models/v1/embedding/shard.safetensors").write_text("rows")
    (folder / "models/v1/_SUCCESS").touch()
    far = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
    near = filesystems.filesystem_of

    def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
        return (far, uri.removeprefix("far://")) if uri.startswith("far://") else near(uri)

    monkeypatch.setattr(filesystems, "filesystem_of", filesystem_of)
    monkeypatch.setenv("ESMM_SPARK_CACHE", str(tmp_path / "cache"))
    return folder


def test_a_local_folder_is_its_own_copy(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    assert localize(str(tmp_path / "v1")) == str(tmp_path / "v1")
    assert localize((tmp_path / "v1").as_uri()) == str(tmp_path / "v1")


def test_a_remote_folder_is_copied_once(remote: Path) -> None:
    first = localize("far://models/v1")
    assert (Path(first) / "embedding/shard.safetensors").read_text() == "rows"
    (Path(first) / "model.json").write_text("the copy's")
    assert localize("far://models/v1/") == first
    assert (Path(first) / "model.json").read_text() == "the copy's"


def test_a_remote_folder_that_was_written_again_is_copied_again(remote: Path) -> None:
    # As step-00000120 is when a run with another seed starts over at the same paths.model: same URI, same
    # sizes, other rows.
    shard = remote / "models/v1/embedding/shard.safetensors"
    first = localize("far://models/v1")
    shard.write_text("ROWS")
    os.utime(shard, ns=(0, shard.stat().st_mtime_ns + 1))
    second = localize("far://models/v1")
    assert (Path(first) / "embedding/shard.safetensors").read_text() == "rows"
    assert (Path(second) / "embedding/shard.safetensors").read_text() == "ROWS"


def test_a_copy_that_was_cut_off_is_made_again(remote: Path) -> None:
    first = Path(localize("far://models/v1"))
    (first / "_SUCCESS").unlink()
    (first / "model.json").unlink()
    assert localize("far://models/v1") == str(first)
    assert (first / "model.json").read_text() == "{}"


def test_a_remote_folder_with_a_pickle_or_half_written_is_not_copied(remote: Path) -> None:
    (remote / "models/v1/_SUCCESS").unlink()
    with pytest.raises(IncompleteError, match="far://models/v1 is half-written"):
        localize("far://models/v1")
    with pytest.raises(InputError, match="no model at far://models/v2"):
        localize("far://models/v2")
    (remote / "models/v1/weights.pt").touch()
    with pytest.raises(UnsafeFileError, match=r"weights\.pt"):
        localize("far://models/v1")
