"""How far a run looks back, and that it leaves days alone whose logs are no longer whole."""

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from esmm_spark.errors import MissingLogError
from esmm_spark.event_config import EventLogs
from esmm_spark.manifest import DayCounts, read_manifest
from esmm_spark.samples.backfill import days_that_can_change
from esmm_spark.samples.day import parse_day
from esmm_spark.samples.days import build_days
from esmm_spark.samples.whole_logs import require_whole
from tests.events.small_logs import DAYS, at, config, event, impression, rows_of, write_log


@pytest.mark.parametrize(
    ("click_window_s", "conversion_window_s", "late_days", "num_days"),
    [(86_400, 7 * 86_400, 1, 9), (3_600, 3_600, 0, 1), (86_400, 86_400, 0, 2), (86_400, 86_401, 2, 5)],
)
def test_a_run_looks_back_as_far_as_new_events_can_change_labels(
    tmp_path: Path, click_window_s: int, conversion_window_s: int, late_days: int, num_days: int
) -> None:
    windows = {"click_window_s": click_window_s, "conversion_window_s": conversion_window_s}
    logs = {name: {"late_days": late_days} for name in ("impressions", "clicks", "conversions")}
    events = config(tmp_path, attribution=windows, **logs).logs.events
    assert isinstance(events, EventLogs)
    assert days_that_can_change(events) == num_days


def built(as_of: str | None, **events_per_day: dict[str, int]) -> DayCounts:
    return DayCounts(
        as_of=as_of, label_digest="", immature=0, sources=[], join={}, events_per_day=events_per_day
    )


def test_logs_that_hold_less_of_a_day_than_it_was_built_from_are_not_whole() -> None:
    then = built("2026-11-24T06:00:00+00:00", clicks={"2026-11-23": 5, "2026-11-24": 2})
    later, earlier = (parse_day("2026-11-23", f"{day}T00:00:00") for day in ("2026-11-26", "2026-11-24"))
    require_whole(then, {"clicks": {"2026-11-23": 5, "2026-11-24": 9}}, later, frozenset())
    said = (
        r"ds=2026-11-23 was built from 5 clicks of 2026-11-23, of which the logs now hold 1 \(and less of 1 "
        r"more\): it is left as it is; bring the logs back, or say that it is right with --ds 2026-11-23 "
        "--allow-missing clicks"
    )
    with pytest.raises(MissingLogError, match=said):
        require_whole(then, {"clicks": {"2026-11-23": 1}}, later, frozenset())
    require_whole(then, {"clicks": {}}, later, frozenset({"clicks"}))
    # As of an earlier time less is known, which is no loss.
    require_whole(then, {"clicks": {"2026-11-23": 5}}, earlier, frozenset())
    with pytest.raises(MissingLogError):
        require_whole(then, {"clicks": {"2026-11-23": 4}}, earlier, frozenset())


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_day_whose_raw_folders_are_gone_is_left_alone_and_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    shown = [impression(f"{day}-{n}", at(day, 1), item=f"i{n}") for day in range(3) for n in range(3)]
    write_log(logs / "impressions", shown)
    write_log(logs / "clicks", [event(at(day, 1.5), item="i0") for day in range(3)])
    write_log(logs / "conversions", [event(at(day, 2), item="i0") for day in range(3)])
    small = config(tmp_path)
    for number in (0, 1):
        build_days(spark, small, parse_day(DAYS[number], f"{DAYS[number + 1]}T00:00:00"))
    before = read_manifest(small.paths.dataset)
    rows = rows_of(small, "labels", DAYS[0])
    # The second day converts again, late; the first day's impressions are deleted.
    write_log(logs / "conversions", [event(at(2, 1), item="i0")], file="late.parquet")
    shutil.rmtree(logs / "impressions" / f"ds={DAYS[0]}")

    found = build_days(spark, small, parse_day(DAYS[2], f"{DAYS[3]}T00:00:00"), backfill_days=3)
    assert found.written == [f"ds={DAYS[2]}", f"ds={DAYS[1]}"]
    assert list(found.left_alone) == [f"ds={DAYS[0]}"]
    assert "needs ds=2026-11-23 of" in found.left_alone[f"ds={DAYS[0]}"]
    after = read_manifest(small.paths.dataset)
    assert after.days is not None
    assert before.days is not None
    assert after.days[f"ds={DAYS[0]}"] == before.days[f"ds={DAYS[0]}"]
    assert rows_of(small, "labels", DAYS[0]) == rows
    assert after.partitions[f"ds={DAYS[0]}"].impressions == 3

    # Asked for by name it is not rebuilt either, and a log that only holds less is told, too.
    with pytest.raises(MissingLogError, match="ds=2026-11-23 needs ds=2026-11-23"):
        build_days(spark, small, parse_day(DAYS[0], None))
    write_log(logs / "impressions", shown[:2])
    with pytest.raises(
        MissingLogError, match="built from 3 impressions of 2026-11-23, of which the logs now hold 2"
    ):
        build_days(spark, small, parse_day(DAYS[0], None))
    assert read_manifest(small.paths.dataset) == after
    # One day back, and no farther.
    assert build_days(spark, small, parse_day(DAYS[2], None), backfill_days=1).left_alone == {}
