"""A day is replaced as a whole, wherever the run that replaces it is killed."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import (
    ConfigError,
    CountMismatchError,
    IncompleteError,
    InputError,
    TargetBusyError,
)
from esmm_spark.contracts.manifest import DayCounts, DayPartition, ExamplesFile, PartitionCounts, SourceCounts
from esmm_spark.contracts.schemas.layout import DAY_PARTITION, EXAMPLES
from esmm_spark.events.day_folders import GROUPED, day_staging, publish_day, write_day_manifest
from esmm_spark.events.days import check_dataset
from esmm_spark.files import seals, storage
from esmm_spark.files.manifest_file import list_days, read_manifest
from tests.events.small_logs import config
from tests.flipped_bits import flips_of

DAY = "ds=2026-11-23"


def stage(folder: Path, version: int) -> DayPartition:
    """Writes what a run leaves in its staging folder: each file has `version` rows."""
    rows = pa.table({"impression_id": pa.array([[str(row)] for row in range(version)])})
    for name in (
        "labels/l",
        "rejects/r",
        f"{GROUPED}/rejects/g",
        f"{GROUPED}/{EXAMPLES}/{DAY}/part-{version}",
    ):
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path)
    counts = PartitionCounts(
        groups=version,
        impressions=version,
        positives={"click": 0, "conversion": 0},
        context_tokens=0,
        impression_tokens=0,
        group_hash_sum=0,
        files=[
            ExamplesFile(
                path=f"{EXAMPLES}/{DAY}/part-{version}.parquet", groups=[version], impressions=[version]
            )
        ],
    )
    source = SourceCounts(
        name="impressions",
        path="logs",
        lines_read=3 * version,
        lines_accepted=version,
        rejects={"bad_time": 2 * version},
    )
    day = DayCounts(
        as_of=None,
        label_digest=str(version),
        immature=0,
        sources=[source],
        join={"impressions": {"total": version}},
    )
    return DayPartition(examples=counts, day=day)


def publish(tmp_path: Path, version: int) -> None:
    publish_folders(tmp_path, version)
    write_day_manifest(str(tmp_path / "dataset"), config(tmp_path))


def publish_folders(tmp_path: Path, version: int) -> None:
    dataset = str(tmp_path / "dataset")
    with day_staging(dataset, DAY) as (staging, lease):
        partition = stage(Path(staging), version)
        publish_day(dataset, staging, DAY, partition, lease)


def require_whole(tmp_path: Path, version: int) -> None:
    dataset = tmp_path / "dataset"
    manifest = read_manifest(str(dataset))
    assert manifest.days is not None
    assert manifest.days[DAY].label_digest == str(version)
    counts = manifest.partitions[DAY]
    assert counts.impressions == version
    for file in counts.files:
        assert pq.read_table(dataset / file.path, partitioning=None).num_rows == version
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


@pytest.mark.parametrize("moves_until_killed", range(6))
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
    publish_folders(tmp_path, 2)
    require_whole(tmp_path, 2)


def test_two_days_are_built_at_once_and_the_same_day_is_not(tmp_path: Path) -> None:
    dataset = str(tmp_path / "dataset")
    with (
        day_staging(dataset, DAY),
        day_staging(dataset, "ds=2026-11-24"),
        pytest.raises(TargetBusyError, match=f"day {DAY}, is being written by process"),
    ):
        publish(tmp_path, 2)
    publish(tmp_path, 1)
    require_whole(tmp_path, 1)


@pytest.mark.parametrize("kind", ["labels", "rejects", "examples"])
def test_a_day_whose_files_hold_other_rows_than_were_counted_is_not_published(
    tmp_path: Path, kind: str
) -> None:
    publish(tmp_path, 1)
    dataset = str(tmp_path / "dataset")
    with day_staging(dataset, DAY) as (staging, lease):
        partition = stage(Path(staging), 2)
        file = next(path for path in Path(staging).rglob("*.parquet") if kind in path.parts)
        pq.write_table(pa.table({"impression_id": pa.array([["1"]])}), file)
        with pytest.raises(CountMismatchError, match="nothing was replaced"):
            publish_day(dataset, staging, DAY, partition, lease)
    require_whole(tmp_path, 1)


@pytest.mark.parametrize("kind", ["labels", "rejects", "examples"])
def test_what_a_user_put_into_a_days_folder_is_not_deleted(tmp_path: Path, kind: str) -> None:
    publish(tmp_path, 1)
    own = tmp_path / "dataset" / kind / DAY / "raw" / "own.parquet"
    own.parent.mkdir()
    own.write_text("the only copy")
    with pytest.raises(InputError, match="holds raw, which would be deleted"):
        publish(tmp_path, 2)
    assert own.exists()
    require_whole(tmp_path, 1)


def test_a_link_to_the_dataset_and_one_to_a_day_stay(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    (tmp_path / "dataset").rename(tmp_path / "real")
    (tmp_path / "dataset").symlink_to(tmp_path / "real")
    day = tmp_path / "real" / EXAMPLES / DAY
    day.rename(tmp_path / "other-disk")
    day.symlink_to(tmp_path / "other-disk")
    publish(tmp_path, 2)
    require_whole(tmp_path, 2)
    assert (tmp_path / "dataset").is_symlink()
    assert day.is_symlink()


def test_a_flipped_bit_of_a_days_counts_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "_PATIENCE_S", 0.0)
    publish(tmp_path, 2)
    dataset = tmp_path / "dataset"
    said = r"^\S+partition\.json has another SHA-256 than in .* day again$"
    for _ in flips_of(dataset / EXAMPLES / DAY / DAY_PARTITION, 25):
        with pytest.raises(InputError, match=said):
            read_manifest(str(dataset))
    require_whole(tmp_path, 2)


def test_a_flipped_bit_of_a_days_labels_or_rejects_is_told_in_one_line(tmp_path: Path) -> None:
    publish(tmp_path, 2)
    for file in ("labels/{}/l.parquet", "rejects/{}/r.parquet", "rejects/{}/g.parquet"):
        path = tmp_path / "dataset" / file.format(DAY)
        said = rf"^\S+{path.name} has another SHA-256 than in .*: mend it$"
        for _ in flips_of(path, 25):
            with pytest.raises(InputError, match=said):
                seals.verify_listed(str(path.parent), "mend it")
        seals.verify_listed(str(path.parent), "mend it")


@pytest.mark.slow
def test_a_day_whose_counts_are_damaged_can_be_built_again(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    (tmp_path / "dataset" / EXAMPLES / DAY / DAY_PARTITION).write_text("{")
    with pytest.raises(InputError, match="preprocess that day again"):
        read_manifest(str(tmp_path / "dataset"))
    check_dataset(config(tmp_path), DAY)
    publish(tmp_path, 2)
    require_whole(tmp_path, 2)


def test_days_whose_ids_became_text_by_an_older_rule_are_not_mixed_with_new_ones(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    manifest = read_manifest(str(tmp_path / "dataset"))
    assert manifest.days is not None
    assert manifest.days[DAY].value_rule == 1
    with pytest.raises(ConfigError, match=rf"^{DAY} in \S+ are from when 11 and 11\.0 were") as told:
        check_dataset(config(tmp_path), "ds=2026-11-24")
    assert "\n" not in str(told.value)
    # In its own place nothing is left to be mixed with; nor is it once it is gone.
    check_dataset(config(tmp_path), DAY)
    shutil.rmtree(tmp_path / "dataset" / EXAMPLES / DAY)
    check_dataset(config(tmp_path), "ds=2026-11-24")


def with_repurchases(tmp_path: Path, **log: Any) -> Config:
    """Returns a config of three tasks."""
    content = config(tmp_path).model_dump(mode="json")
    content["tasks"]["repurchase"] = {"given": "conversion"}
    path = str(tmp_path / "logs/repurchases")
    repurchases = {"path": path, "time": "time", "user_id": "user_id", "item_id": "item_id", **log}
    content["logs"]["events"]["tasks"]["repurchase"] = repurchases
    return Config.model_validate(content)


def test_a_day_of_other_tasks_windows_or_carried_columns_is_not_built_beside_the_others(
    tmp_path: Path,
) -> None:
    publish_folders(tmp_path, 2)
    dataset = str(tmp_path / "dataset")
    write_day_manifest(dataset, with_repurchases(tmp_path, window_s=60))
    check_dataset(with_repurchases(tmp_path, window_s=60), DAY)
    with pytest.raises(ConfigError, match=r"logs.events.tasks.repurchase.window_s = 61, but .* with 60: set"):
        check_dataset(with_repurchases(tmp_path, window_s=61), DAY)
    write_day_manifest(dataset, config(tmp_path))
    with pytest.raises(ConfigError, match=r"= .*, but the days in .* were made with None: set it back"):
        check_dataset(with_repurchases(tmp_path), DAY)
    carrying = config(tmp_path).model_dump(mode="json")
    carrying["samples"]["carry"] = {"age": "int"}
    with pytest.raises(ConfigError, match=r"samples.carry = \{'age': 'int'\}, but .* with \{\}: set it back"):
        check_dataset(Config.model_validate(carrying), DAY)
