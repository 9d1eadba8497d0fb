"""A run goes on, or has ended, on the data that it began with; what differs is named."""

from pathlib import Path
from typing import Any

import pytest

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.training.run import train
from esmm_spark.training.trained_data import changes_of_data
from tests.synthetic_examples import Group, random_groups, small_config, write_dataset, write_partition

TRAIN, VALIDATION = "split=train", "split=validation"


def relabelled(groups: list[Group]) -> list[Group]:
    """The groups, and as many clicks and conversions, on other impressions."""
    return [
        {**group, "click": group["click"][::-1], "conversion": group["conversion"][::-1]} for group in groups
    ]


def write(folder: Path, train_groups: list[Group], validation_groups: list[Group]) -> None:
    train_counts = write_partition(folder / "dataset", TRAIN, train_groups, [[20, 20], [20]])
    validation_counts = write_partition(folder / "dataset", VALIDATION, validation_groups, [[10], [10]])
    write_dataset(folder / "dataset", {TRAIN: train_counts, VALIDATION: validation_counts})


@pytest.fixture
def groups() -> list[list[Group]]:
    return [random_groups(60, 1), random_groups(20, 2)]


def config_in(folder: Path, **settings: Any) -> Config:
    return small_config(folder, epochs=1, **settings)


@pytest.mark.slow
def test_a_finished_or_half_done_run_does_not_take_changed_data_for_its_own(
    tmp_path: Path, groups: list[list[Group]]
) -> None:
    config = config_in(tmp_path)
    write(tmp_path, *groups)
    # Half an epoch, then all of it.
    train(config_in(tmp_path, max_steps=1))
    write(tmp_path, relabelled(groups[0]), groups[1])
    with pytest.raises(ConfigError, match=r"had other data: data\.train: split=train has changed in .*: set"):
        train(config)
    write(tmp_path, groups[0], relabelled(groups[1]))
    with pytest.raises(ConfigError, match=r"data\.validation: split=validation has changed in"):
        train(config)
    # The same bytes again are the same data.
    write(tmp_path, *groups)
    train(config)
    assert "already trained" in str(train(config))
    write(tmp_path, relabelled(groups[0]), groups[1])
    with pytest.raises(ConfigError, match=r"data\.train: split=train has changed in"):
        train(config)
    assert "after" in str(train(config_in(tmp_path, resume=False)))
    # A file that was written again, and the manifest was not.
    write_partition(tmp_path / "dataset", TRAIN, groups[0], [[20, 20], [20]])
    with pytest.raises(InputError, match=r"part-00000\.parquet: .*not what preprocess wrote there"):
        train(config)


def test_days_that_came_went_or_changed_are_named() -> None:
    before = {"data.train": {"ds=1": "a", "ds=2": "b"}, "data.validation": {"ds=3": "c"}}
    assert changes_of_data(before, before) == changes_of_data({}, before) == ""
    now = {**before, "data.train": {"ds=2": "x", "ds=4": "d"}}
    assert changes_of_data(before, now) == "data.train: ds=1 is gone, ds=2 has changed, ds=4 is new"
    many = {"data.train": {f"ds={n}": "a" for n in range(6)}}
    told = changes_of_data(many, {"data.train": dict.fromkeys(many["data.train"], "b")})
    assert told.endswith("ds=2 has changed and 3 more")


def test_a_run_that_starts_over_takes_the_data_as_it_is_now(
    tmp_path: Path, groups: list[list[Group]]
) -> None:
    write(tmp_path, *groups)
    train(config_in(tmp_path, resume=False, max_steps=1, checkpoint_every_steps=1))
    write(tmp_path, relabelled(groups[0]), groups[1])
    # No second try of the run before: that one had other labels.
    assert "after" in str(train(config_in(tmp_path, resume=False)))
