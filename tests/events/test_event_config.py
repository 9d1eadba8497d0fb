"""Mistakes in `logs.events` and `data`, and what a person reads."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.manifest import ExamplesFile, Manifest, PartitionCounts
from esmm_spark.contracts.selection import default_validation, select
from esmm_spark.events.reading.day import parse_day
from tests.events.small_logs import config


@pytest.fixture
def written(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config(tmp_path).model_dump(mode="json")))
    return str(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("logs.events.attribution.click_window_s=-1", "click_window_s = -1: Input should be greater than 0"),
        ("logs.events.attribution.conversion_window_s=0", "conversion_window_s = 0: Input should be greater"),
        ("logs.events.attribution.window=1", "unknown key logs.events.attribution.window: allowed here are"),
        ("logs.events.impressions.time_unit=h", "time_unit = 'h': Input should be 's', 'ms', 'us' or 'iso'"),
        (
            "logs.events.clicks.earliest_time='2026-13-01'",
            "month must be in 1..12: write days like 2026-11-23",
        ),
        ("logs.events.clicks.earliest_time=5", "earliest_time = 5: Input should be a valid date"),
        ("logs.events.immature=guess", "immature = 'guess': Input should be 'drop', 'keep' or 'flag'"),
        ("logs.events.clicks.item_id=null", "clicks need impression_id, or user_id and item_id"),
        ("logs.events.clicks.user_id=null", "history clicked needs clicks.user_id"),
        ("tasks.buy={given: click}", "task buy has no log: set logs.events.tasks.buy"),
        (
            "logs.events.tasks.click={path: p, time: t, user_id: u, item_id: i}",
            "task click has two logs: set logs.events.clicks or logs.events.tasks.click",
        ),
        (
            "logs.events.tasks.buy={path: p, time: t, user_id: u, item_id: i}",
            "logs.events has a log of buy, but tasks are click, conversion given click",
        ),
        ("logs.events.history.0.of=likes", "history clicked is of likes, of which there is no log"),
        ("logs.events.conversions.click_id=c", "conversions have click_id, clicks have none"),
        (
            "logs.events.clicks.features={}",
            "counts category, which is neither in clicks.features nor in an item",
        ),
        ("logs.events.impressions.features={item: item_id, category: c}", "age come from nowhere"),
        ("samples.carry={age: float, price: float}", "samples.carry price come from nowhere: name them in"),
        ("logs.events=null", "format is events, but no logs are named: set logs.events"),
        (
            "logs.format=table",
            "logs: events has no effect where format is table: set format: events, or leav",
        ),
        ("score.table=a", "score.table has no effect where logs.format is events: leave it out"),
        (
            "logs.events.catalogs=[{path: p, key: item, key_column: i, features: {b: b}, lag_days: 2}]",
            "catalogs.0: lag_days has no effect without day_folders: set day_folders, or leave lag_days out",
        ),
        ("data.train=ds in [2026-11-01]", "data.train = 'ds in [2026-11-01]'"),
    ],
)
def test_a_mistake_names_key_value_and_what_is_allowed(written: str, override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written, [override])
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("ds", "as_of", "expected"),
    [
        ("23.11.2026", None, "--ds 23.11.2026 is no day"),
        ("2026-W48-1", None, "--ds 2026-W48-1 is no day"),
        ("2026-11-23", "tomorrow", "--as-of tomorrow is no time"),
        ("2026-11-23", "2026-11-22T23:59:59", "is before the day --ds 2026-11-23"),
    ],
)
def test_a_wrong_day_is_told(ds: str, as_of: str | None, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        parse_day(ds, as_of)


def test_as_of_is_in_utc_unless_it_says_otherwise() -> None:
    day = parse_day("20261123", "2026-11-24T00:00:00")
    assert day.name == "ds=2026-11-23"
    assert day.as_of_us == day.end_us
    assert parse_day("2026-11-23", "2026-11-24T01:00:00+01:00").as_of_us == day.end_us


def test_a_cross_of_a_context_is_refused(tmp_path: Path) -> None:
    content = config(tmp_path).model_dump(mode="json")
    (field,) = [field for field in content["features"]["fields"] if field["name"] == "cross"]
    field["level"] = "context"
    with pytest.raises(
        ValueError, match=r"features.fields cross are crosses with level: context.*: impression"
    ):
        Config.model_validate(content)


def test_an_unpooled_history_has_no_counts_to_cross_or_to_let_decay(tmp_path: Path) -> None:
    content = config(tmp_path).model_dump(mode="json")
    content["features"]["fields"][1] |= {"pooling": "none", "max_length": 9}
    with pytest.raises(
        ValueError, match="cross cross is of the history clicked, whose field has pooling: no"
    ):
        Config.model_validate(content)
    content["logs"]["events"]["history"][0]["half_life_days"] = 2
    with pytest.raises(
        ValueError, match=r"history clicked has half_life_days, .* its field has pooling: none"
    ):
        Config.model_validate(content)


def manifest_of(tmp_path: Path, *days: int) -> Manifest:
    def counts(day: int) -> PartitionCounts:
        numbers: dict[str, Any] = dict.fromkeys(
            ("groups", "impressions", "context_tokens", "impression_tokens"), day
        )
        numbers["positives"] = {"click": day, "conversion": day}
        file = ExamplesFile(
            path=f"examples/ds=2026-11-0{day}/part-0.parquet", groups=[day], impressions=[day]
        )
        return PartitionCounts(**numbers, group_hash_sum=2**62, files=[file])

    spec = config(tmp_path).features
    return Manifest(
        feature_spec=spec,
        feature_spec_digest=spec.digest,
        sources=[],
        partitions={f"ds=2026-11-0{day}": counts(day) for day in days},
        config={},
        days={},
    )


def test_a_range_of_days_is_all_their_files_and_later_days_are_the_rest(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 1, 2, 3, 5)
    chosen = select(manifest, "ds in [2026-11-01, 2026-11-03]", "d")
    assert (chosen.impressions, len(chosen.files), chosen.group_hash_sum) == (6, 3, -(2**62))
    assert select(manifest, "ds=2026-11-02", "d").impressions == 2
    later = default_validation(manifest, "ds in [2026-11-01, 2026-11-02]")
    assert later == "ds > 2026-11-02"
    assert select(manifest, later, "d").impressions == 8
    assert default_validation(manifest, "ds=2026-11-05") is None
    assert default_validation(manifest, "split=train") is None


@pytest.mark.parametrize(
    ("selection", "error", "expected"),
    [
        (
            "ds in [2026-11-03, 2026-11-05]",
            InputError,
            "has no ds=2026-11-04: run jobs/preprocess.py --ds 2026-11-04",
        ),
        ("ds in [2026-11-03, 2026-11-01]", ConfigError, "ends before it begins"),
        ("ds in [2026-11-31, 2026-12-01]", ConfigError, "day is out of range"),
        ("ds=2026-11-09", InputError, "has no partition ds=2026-11-09"),
    ],
)
def test_days_that_are_not_there_are_told(
    tmp_path: Path, selection: str, error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        select(manifest_of(tmp_path, 1, 2, 3, 5), selection, "d")
