"""Daily runs end to end on small logs."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import InputError
from esmm_spark.events import backfill
from esmm_spark.events.backfill import EarlierDay, look_back
from esmm_spark.events.days import build_days
from esmm_spark.events.join.needed_folders import excuses
from esmm_spark.events.reading.day import Day, parse_day
from esmm_spark.files.manifest_file import read_manifest
from tests.events.small_logs import DAYS, at, config, days_of, event, impression, row_of, rows_of, write_log

pytestmark = pytest.mark.spark


def build(
    spark: SparkSession, config: Config, day: str, as_of: str | None = None, backfill_days: int = 0
) -> list[str]:
    # Little happens here: there are days without a click or a conversion.
    rare = ("clicks", "conversions")
    written, left_alone = build_days(spark, config, parse_day(day, as_of), backfill_days, rare)
    assert left_alone == {}
    return written


def write_three_days(logs: Path) -> None:
    impressions = [
        impression(f"{day}-{user}-{n}", at(day, 1 + n / 10), user, f"i{n}", request=f"{day}-{user}")
        for day in range(3)
        for user in ("u", "v")
        for n in range(3)
    ]
    clicks = [event(at(day, 1.25), user, f"i{day}") for day in range(3) for user in ("u", "v")]
    # u's click of day 0 converts on day 1, v's on day 2: late. Nothing changes day 1.
    conversions = [event(at(1, 5), "u", "i0"), event(at(2, 0.5), "v", "i0"), event(at(2, 9), "u", "i2")]
    write_log(logs / "impressions", impressions)
    write_log(logs / "clicks", clicks)
    write_log(logs / "conversions", conversions)


def all_rows(config: Config) -> dict[str, Any]:
    return {
        f"{kind} {day}": rows_of(config, kind, day) for kind in ("examples", "labels") for day in DAYS[:3]
    }


@pytest.mark.slow
@pytest.mark.timeout(900)  # seven days are built
@pytest.mark.usefixtures("only_named_jobs")
def test_three_daily_runs_backfilled_equal_one_run_over_all_of_it(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_three_days(tmp_path / "logs")
    daily = config(tmp_path)
    ends = (*DAYS[1:3], "2026-11-26")
    written = [
        build(spark, daily, day, f"{end}T00:00:00", backfill_days=5)
        for day, end in zip(DAYS[:3], ends, strict=True)
    ]
    assert written == [
        ["ds=2026-11-23"],
        ["ds=2026-11-24", "ds=2026-11-23"],
        ["ds=2026-11-25", "ds=2026-11-23"],
    ]
    backfilled = all_rows(daily)
    labels = {row["impression_id"]: row["conversion"] for row in backfilled["labels 2026-11-23"]}
    assert {name for name, label in labels.items() if label} == {"0-u-0", "0-v-0"}

    manifest = read_manifest(daily.paths.dataset)
    assert list(manifest.partitions) == [f"ds={day}" for day in DAYS[:3]]
    assert [counts.impressions for counts in manifest.partitions.values()] == [6, 6, 6]

    # What is the same is not read again; what was written anew, or is looked at as of another time, is.
    read: list[str] = []

    def note(_spark: Any, _events: Any, day: Day, *_: Any) -> EarlierDay:
        read.append(day.name)
        return EarlierDay(day, True, "")

    def days_read(as_of: str) -> list[str]:
        read.clear()
        is_excused = excuses(daily.paths.dataset, ("clicks", "conversions"), None)
        looked = list(look_back(spark, daily, parse_day(DAYS[2], as_of), 5, is_excused))
        assert [day.left_alone for day in looked] == ["", ""]
        return list(read)

    with monkeypatch.context() as patch:
        patch.setattr(backfill, "_read", note)
        earlier = ["ds=2026-11-23", "ds=2026-11-24"]
        assert days_read("2026-11-26T00:00:00") == []
        assert days_read("2026-11-25T12:00:00") == earlier
        os.utime(tmp_path / "logs" / "conversions" / "ds=2026-11-25" / "part-0.parquet")
        assert days_read("2026-11-26T00:00:00") == earlier

    # Over all of it, in another order into another folder.
    shutil.rmtree(tmp_path / "dataset")
    for day in (DAYS[1], DAYS[0]):
        build(spark, daily, day)
    for name, rows in all_rows(daily).items():
        assert rows == ([] if name.endswith(DAYS[2]) else backfilled[name]), name


def test_plain_paths_are_this_hosts_whatever_file_system_spark_takes_for_its_default(
    spark_elsewhere: SparkSession, tmp_path: Path
) -> None:
    write_three_days(tmp_path / "logs")
    assert build(spark_elsewhere, config(tmp_path), DAYS[0]) == ["ds=2026-11-23"]
    assert len(rows_of(config(tmp_path), "labels", DAYS[0])) == 6


def test_a_day_holds_the_labels_history_and_crosses_that_its_logs_say(
    spark: SparkSession, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    write_log(
        logs / "impressions",
        [impression("a", at(1, 2), item="i"), impression("b", at(1, 3), item="j", age=None)],
    )
    # Before the window of two days, twice in it, at the very time of b, after it.
    times = (at(0, 1), at(0, 20), at(1, 2.5), at(1, 3), at(1, 3.5))
    write_log(logs / "clicks", [event(time_us, item="j") for time_us in times])
    write_log(logs / "conversions", [event(at(1, 4), item="j")])
    small = config(tmp_path)
    assert build(spark, small, DAYS[1]) == ["ds=2026-11-24"]
    groups = {row["impression_id"][0]: row for row in rows_of(small, "examples", DAYS[1])}
    assert (groups["a"]["click"], groups["b"]["click"], groups["b"]["conversion"]) == ([0], [1], [1])

    assert groups["a"]["context_rows"] == [row_of(small, "age", "7"), row_of(small, "clicked", "c-j")]
    assert groups["b"]["impression_rows"] == [
        row_of(small, "item", "j"),
        row_of(small, "category", "c-j"),
        row_of(small, "cross", "c-j"),
    ]
    assert groups["a"]["context_lengths"] == [1, 1]
    assert groups["b"]["context_lengths"] == [0, 1]
    np.testing.assert_allclose(groups["a"]["context_weights"], [1.0, np.log(3)], rtol=1e-6)
    np.testing.assert_allclose(groups["b"]["context_weights"], [np.log(4)], rtol=1e-6)
    assert groups["a"]["impression_lengths"] == [1, 1, 0]
    assert groups["b"]["impression_lengths"] == [1, 1, 1]
    np.testing.assert_allclose(groups["b"]["impression_weights"], [1, 1, np.log(4)], rtol=1e-6)
    labels = {row["impression_id"]: row for row in rows_of(small, "labels", DAYS[1])}
    assert (labels["b"]["num_clicks"], labels["b"]["click_time_us"]) == (2, at(1, 3))
    day = days_of(read_manifest(small.paths.dataset))["ds=2026-11-24"]
    assert day.join["clicks"]["total"] == 3
    assert day.join["clicks"]["orphans"] == 1
    assert day.join["repeats"] == {"clicks": 1, "conversions": 0}


def unpooled(small: Config, field: str, max_length: int) -> Config:
    content = small.model_dump(mode="json")
    features, content["logs"]["events"]["crosses"] = content["features"], []
    features["fields"] = [one for one in features["fields"] if one["name"] != "cross"]
    del features["tables"]["cross"]
    (changed,) = [one for one in features["fields"] if one["name"] == field]
    changed |= {"pooling": "none", "max_length": max_length, "multi": True, "level": "context"}
    return Config.model_validate(content)


def test_an_unpooled_history_is_in_the_examples_newest_first_and_cut(
    spark: SparkSession, tmp_path: Path
) -> None:
    small = unpooled(config(tmp_path), "clicked", 3)
    write_log(tmp_path / "logs/impressions", [impression("a", at(1, 12), request="r")])
    clicks = [event(at(1, hour), item=item) for hour, item in enumerate("yxxzx")]
    write_log(tmp_path / "logs/clicks", clicks)
    write_log(tmp_path / "logs/conversions", [event(at(1, 0.2), item="x")])
    build(spark, small, DAYS[1])
    (group,) = rows_of(small, "examples", DAYS[1])
    values = ["c-x", "c-z", "c-x"]
    assert group["context_rows"][1:] == [row_of(small, "clicked", value) for value in values]
    assert group["context_lengths"] == [1, 3]
    assert group["context_weights"] == [1.0] * 4
    sources = days_of(read_manifest(small.paths.dataset))[f"ds={DAYS[1]}"].sources
    assert sum(source.notes.get("tokens_beyond_max_length", 0) for source in sources) == 2


def test_an_object_is_refused_where_the_order_of_values_counts(spark: SparkSession, tmp_path: Path) -> None:
    small = unpooled(config(tmp_path), "age", 3)
    write_log(tmp_path / "logs/impressions", [impression("a", at(1, 12))])
    path = tmp_path / f"logs/impressions/ds={DAYS[1]}/part-0.parquet"
    table = pq.read_table(path, partitioning=None)
    ages = pa.array([[("7", 0.5)]], pa.map_(pa.string(), pa.float64()))
    pq.write_table(table.set_column(table.column_names.index("age"), "age", ages), path)
    write_log(tmp_path / "logs/clicks", [event(at(1, 1))])
    write_log(tmp_path / "logs/conversions", [event(at(1, 1))])
    with pytest.raises(InputError, match="field age has pooling: none, but its attribute is an object value"):
        build(spark, small, DAYS[1])


def test_attributes_of_the_log_are_carried_into_the_examples(spark: SparkSession, tmp_path: Path) -> None:
    values: dict[str, list[Any]] = {
        "price": [0.1, 1e-9, None, float("nan"), 3.0],
        "place": [2**60 + 1, -7, None, 0, 5],
        "segment": ["a,b%2C", "line\nfeed\r", None, "", "42.0"],
        "shelf": ["1.5", "x", "7", "8", "9"],
    }
    impressions = [
        impression(f"i{n}", at(1, n), item=f"item-{n}", **{name: of[n] for name, of in values.items()})
        for n in range(5)
    ]
    write_log(tmp_path / "logs/impressions", impressions)
    write_log(tmp_path / "logs/clicks", [event(at(1, 0.1), item="item-0")])
    write_log(tmp_path / "logs/conversions", [event(at(1, 0.2), item="item-0")])
    names = {"price": "float", "place": "int", "segment": "string", "shelf": "int"}
    features = {"age": "age", "item": "item_id", "category": "category", **{name: name for name in names}}
    small = config(tmp_path, impressions={"features": features})
    content = small.model_dump(mode="json")
    content["samples"]["carry"] = names
    assert build(spark, Config.model_validate(content), DAYS[1]) == [f"ds={DAYS[1]}"]

    rows = {row["impression_id"][0]: row for row in rows_of(small, "examples", DAYS[1])}
    assert [rows[f"i{n}"]["click"] for n in range(5)] == [[1], [0], [0], [0], [0]]
    found = {name: [rows[f"i{n}"][name][0] for n in range(5)] for name in names}
    assert found == {
        "price": [0.1, 1e-9, None, None, 3.0],
        "place": [2**60 + 1, -7, None, 0, 5],
        # An attribute's text: whole numbers without their .0, nothing for an empty one.
        "segment": ["a,b%2C", "line\nfeed\r", None, None, "42"],
        "shelf": [None, None, 7, 8, 9],
    }
    days = read_manifest(small.paths.dataset).days
    assert days is not None
    told = "samples.carry.shelf: 2 lines have a value that is no int: they carry null"
    assert told in days[f"ds={DAYS[1]}"].warnings
