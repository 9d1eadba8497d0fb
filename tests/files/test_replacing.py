"""Folders that are replaced whole, by one run at a time, and of which nothing foreign is deleted."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import sleep

import pytest

from esmm_spark.contracts.errors import CountMismatchError, InputError, LeaseLostError, UnwritableError
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.files import replacing as module
from esmm_spark.files import storage
from esmm_spark.files.replacing import recover, replacing, require_own_folder
from tests.files.disks import read_only_folder

WHAT = "paths.dataset"


def write(target: Path | str, content: str = "x", ours: Sequence[str] = ()) -> None:
    files = ("data", "deep/er/data")
    with replacing(str(target), WHAT, ours) as new:
        for name in files:
            storage.write_text(storage.join(new.folder, name), content)
        new.files = files


def write_by_hand(path: Path, content: str) -> None:
    path.mkdir(parents=True)
    (path / "data").write_text(content)
    (path / MARKER).write_text("")


def test_a_new_folder_takes_the_place_of_the_old_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    for content in ("old", "new"):
        write(tmp_path / "dataset", content)
        assert (tmp_path / "dataset/deep/er/data").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_what_was_there_stays_and_nothing_else_is_left(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write(tmp_path / "dataset", "old")

    def fail() -> None:
        with replacing(str(tmp_path / "dataset"), WHAT, ()) as new:
            storage.write_text(storage.join(new.folder, "data"), "new")
            raise error

    with pytest.raises(error):
        fail()
    assert (tmp_path / "dataset/data").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_what_dead_runs_left_is_deleted(tmp_path: Path) -> None:
    for name in (".dataset.staging", ".dataset.run7.staging", ".dataset.previous", ".dataset2.run7.staging"):
        write_by_hand(tmp_path / name, "litter")
    write(tmp_path / "dataset", ours=("data",))
    assert {path.name for path in tmp_path.iterdir()} == {"dataset", ".dataset2.run7.staging"}


def test_a_kill_between_the_two_renames_is_mended_by_the_next_writer(tmp_path: Path) -> None:
    target = str(tmp_path / "dataset")
    write(target, "old")
    storage.move(target, str(tmp_path / ".dataset.previous"))
    recover(target)
    storage.require_complete(target, "dataset", "preprocess")
    assert storage.read_text(storage.join(target, "data")) == "old"


def test_a_kill_before_the_old_folder_is_deleted_leaves_the_new_one(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "dataset", "new")
    write_by_hand(tmp_path / ".dataset.previous", "old")
    recover(str(tmp_path / "dataset"))
    assert (tmp_path / "dataset/data").read_text() == "new"


@pytest.mark.slow
def test_readers_never_disturb_a_writer_that_replaces_a_folder_again_and_again(tmp_path: Path) -> None:
    target = str(tmp_path / "dataset")
    write(target, "old")
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
            for version in range(15):
                # A reader that sleeps through one replacement and wakes in the next is told to try again.
                sleep(0.01)
                write(target, str(version))
        finally:
            is_over.set()
        assert all(reader.result() > 0 for reader in readers)
    assert storage.read_text(storage.join(target, "data")) == "14"


def test_a_run_that_lost_its_lease_replaces_nothing(tmp_path: Path) -> None:
    write(tmp_path / "dataset", "old")

    def write_suspended() -> None:
        with replacing(str(tmp_path / "dataset"), WHAT, ()) as new:
            storage.write_text(storage.join(new.folder, "data"), "new")
            Path(new.lease.uri).write_text("another run's")

    with pytest.raises(LeaseLostError):
        write_suspended()
    assert (tmp_path / "dataset/data").read_text() == "old"


@pytest.mark.parametrize("foreign", ["raw.csv", "deep/raw.csv", "deep/er/empty/"])
def test_a_folder_that_holds_more_than_its_marker_lists_is_not_replaced(tmp_path: Path, foreign: str) -> None:
    target = tmp_path / "dataset"
    write(target, "old")
    path = target / foreign
    if foreign.endswith("/"):
        path.mkdir()
    else:
        path.write_text("the only copy")
    with pytest.raises(
        InputError, match=f"paths.dataset .*/dataset holds {foreign.rstrip('/')}, which would be"
    ):
        write(target, "new")
    assert path.exists()
    assert (target / "data").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_what_comes_into_the_folder_while_it_is_written_anew_is_not_deleted(tmp_path: Path) -> None:
    write(tmp_path / "dataset", "old")
    with pytest.raises(InputError, match=r"holds raw\.csv"), replacing(str(tmp_path / "dataset"), WHAT, ()):
        (tmp_path / "dataset/raw.csv").write_text("the only copy")
    assert (tmp_path / "dataset/raw.csv").exists()


def test_a_folder_without_a_marker_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "dataset/examples").mkdir(parents=True)
    (tmp_path / "dataset/examples/raw.csv").write_text("the only copy")
    with pytest.raises(InputError, match="holds examples, which would be deleted"):
        require_own_folder(str(tmp_path / "dataset"), WHAT, ("examples/*",))


def test_a_folder_whose_marker_lists_nothing_is_judged_by_the_names_in_it(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "dataset/examples", "x")
    (tmp_path / "dataset" / MARKER).touch()
    ours = ("examples/data", f"examples/{MARKER}")
    require_own_folder(str(tmp_path / "dataset"), WHAT, ours)
    (tmp_path / "dataset/examples/more").mkdir()
    (tmp_path / "dataset/examples/more/data").touch()
    with pytest.raises(InputError, match="holds examples/more, which"):
        require_own_folder(str(tmp_path / "dataset"), WHAT, ours)


@pytest.mark.parametrize(
    ("written", "message"), [((), "lacks data"), (("data", "deep/other"), "holds deep/other")]
)
def test_a_file_too_few_or_too_many_is_found_before_anything_is_replaced(
    tmp_path: Path, written: Sequence[str], message: str
) -> None:
    write(tmp_path / "dataset", "old")

    def write_wrongly() -> None:
        with replacing(str(tmp_path / "dataset"), WHAT, ()) as new:
            for name in written:
                storage.write_text(storage.join(new.folder, name), "new")
            new.files = ("data",)

    with pytest.raises(CountMismatchError, match=message):
        write_wrongly()
    assert (tmp_path / "dataset/data").read_text() == "old"


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "disk2" / "real", "old")
    link = tmp_path / "dataset"
    link.symlink_to(tmp_path / "disk2" / "real")
    write(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "disk2/real/data").read_text() == "new"
    assert [path.name for path in (tmp_path / "disk2").iterdir()] == ["real"]
    # A reader finds the old one beside what the link leads to, not beside the link.
    storage.move(str(tmp_path / "disk2/real"), str(tmp_path / "disk2/.real.previous"))
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(storage.require_complete, str(link), "dataset", "preprocess")
        sleep(0.3)
        recover(str(link))
        reader.result()


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_link_that_leads_nowhere_is_told(tmp_path: Path, below: str) -> None:
    (tmp_path / "dataset").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"dataset is a symbolic link to .*/nowhere, which isn't there: "):
        write(f"{tmp_path}/dataset{below}")
    assert (tmp_path / "dataset").is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_a_link_within_the_folder_is_foreign(tmp_path: Path) -> None:
    write(tmp_path / "dataset")
    (tmp_path / "dataset/deep").rename(tmp_path / "elsewhere")
    (tmp_path / "dataset/deep").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="holds deep, a link, which would be deleted"):
        write(tmp_path / "dataset")


@pytest.mark.parametrize("below", ["", "/dataset", "/deep/dataset"])
def test_a_folder_at_or_below_a_file_is_told(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        InputError, match=r"/file is a file: name a folder|lies below .*/file, which is a file"
    ):
        write(f"{tmp_path}/file{below}")


def test_a_place_where_nothing_can_be_written_is_told_before_the_work_begins(tmp_path: Path) -> None:
    with (
        read_only_folder(tmp_path / "disk") as disk,
        pytest.raises(
            UnwritableError,
            match=r"refuses while paths\.dataset .*/dataset is written: .*(Read-only|Permission)",
        ),
    ):
        write(disk / "dataset")


def test_a_full_disk_is_told_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "dataset", "old")

    def fail(*_: object) -> None:
        with open("/dev/full", "w") as full:
            full.write("x" * 100_000)

    monkeypatch.setattr(module, "complete", fail)
    with pytest.raises(UnwritableError, match=r"no room to write .*/dataset, which has .* free: .*No space"):
        write(tmp_path / "dataset", "new")
    assert (tmp_path / "dataset/data").read_text() == "old"
    assert os.listdir(tmp_path) == ["dataset"]
