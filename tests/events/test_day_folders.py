"""A day is replaced as a whole, wherever the run that replaces it is killed."""

from pathlib import Path

import pytest

from esmm_spark import storage
from esmm_spark.errors import IncompleteError
from esmm_spark.manifest import (
    EXAMPLES,
    DayCounts,
    DayPartition,
    ExamplesFile,
    PartitionCounts,
    list_days,
    read_manifest,
)
from esmm_spark.samples.day_folders import GROUPED, publish_day, write_day_manifest
from tests.events.small_logs import config

DAY = "ds=2026-11-23"


def stage(folder: Path, version: int) -> DayPartition:
    """Writes what a run leaves in its staging folder; `version` stands in every file."""
    for name in (
        "labels/l",
        "rejects/r",
        f"{GROUPED}/rejects/g",
        f"{GROUPED}/{EXAMPLES}/{DAY}/part-{version}",
    ):
        storage.write_text(str(folder / f"{name}.parquet"), str(version))
    counts = PartitionCounts(
        groups=version,
        impressions=version,
        clicks=0,
        conversions=0,
        context_tokens=0,
        impression_tokens=0,
        group_hash_sum=0,
        files=[
            ExamplesFile(path=f"{EXAMPLES}/{DAY}/part-{version}.parquet", groups=[1], impressions=[version])
        ],
    )
    day = DayCounts(as_of=None, label_digest=str(version), immature=0, sources=[], join={})
    return DayPartition(examples=counts, day=day)


def publish(tmp_path: Path, version: int) -> None:
    dataset, staging = tmp_path / "dataset", tmp_path / "dataset" / f".{DAY}.staging"
    partition = stage(staging, version)
    publish_day(str(dataset), str(staging), DAY, partition)
    write_day_manifest(str(dataset), config(tmp_path))


def require_whole(tmp_path: Path, version: int) -> None:
    dataset = tmp_path / "dataset"
    manifest = read_manifest(str(dataset))
    assert manifest.days is not None
    assert manifest.days[DAY].label_digest == str(version)
    counts = manifest.partitions[DAY]
    assert counts.impressions == version
    for file in counts.files:
        assert (dataset / file.path).read_text() == str(version)
    assert [path.name for path in (dataset / EXAMPLES / DAY).glob("part-*.parquet")] == [
        f"part-{version}.parquet"
    ]


def test_a_day_is_replaced_with_its_labels_rejects_and_counts(tmp_path: Path) -> None:
    for version in (1, 2):
        publish(tmp_path, version)
        require_whole(tmp_path, version)
        folder = tmp_path / "dataset" / "rejects" / DAY
        assert sorted(path.name for path in folder.glob("*.parquet")) == ["g.parquet", "r.parquet"]
    assert list_days(str(tmp_path / "dataset")) == [DAY]


@pytest.mark.parametrize("moves_until_killed", range(9))
def test_a_run_that_is_killed_leaves_the_old_or_the_new_day_and_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves_until_killed: int
) -> None:
    publish(tmp_path, 1)
    left = moves_until_killed
    move = storage.move

    def dying_move(source: str, target: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(storage, "move", dying_move)
        with pytest.raises(KeyboardInterrupt):
            publish(tmp_path, 2)
    require_whole(tmp_path, 1)
    storage.delete(str(tmp_path / "dataset" / f".{DAY}.staging"))
    publish(tmp_path, 2)
    require_whole(tmp_path, 2)


def test_a_day_that_a_killed_run_took_away_is_never_left_out_but_told_of_until_it_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, 1)
    folder = tmp_path / "dataset" / EXAMPLES
    (folder / DAY).rename(folder / f".{DAY}.previous")
    monkeypatch.setattr(storage, "_PATIENCE_S", 0.0)
    with pytest.raises(IncompleteError, match=f"{DAY} is being replaced, or"):
        read_manifest(str(tmp_path / "dataset"))
    publish(tmp_path, 2)
    require_whole(tmp_path, 2)


def test_a_manifest_that_is_older_than_a_days_folder_is_put_right_when_it_is_read(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    partition = stage(tmp_path / "dataset" / f".{DAY}.staging", 2)
    publish_day(str(tmp_path / "dataset"), str(tmp_path / "dataset" / f".{DAY}.staging"), DAY, partition)
    require_whole(tmp_path, 2)
