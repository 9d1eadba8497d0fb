"""How far a run looks back, and that it leaves days alone whose logs are no longer whole."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import MissingLogError
from esmm_spark.contracts.manifest import DayCounts
from esmm_spark.events import backfill
from esmm_spark.events.backfill import days_that_can_change, look_back
from esmm_spark.events.days import build_days
from esmm_spark.events.join.needed_folders import never_excused
from esmm_spark.events.reading.day import parse_day
from esmm_spark.events.whole_logs import require_whole
from esmm_spark.files.manifest_file import read_day
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
    assert days_that_can_change(config(tmp_path, attribution=windows, **logs).funnel) == num_days


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


def test_a_run_looks_at_the_days_before_its_own_as_far_back_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [f"ds=2026-11-{number}" for number in (20, 22, 23, 24, 25)]
    monkeypatch.setattr(backfill, "list_days", lambda dataset: days)
    monkeypatch.setattr(backfill, "_look_at", lambda spark, config, day, is_excused: day.name)
    day = parse_day("2026-11-24", "2026-11-25T00:00:00")

    def seen(num_days: int) -> list[Any]:
        return list(look_back(None, config(tmp_path), day, num_days, never_excused))  # type: ignore[arg-type]

    assert seen(0) == []
    assert seen(2) == ["ds=2026-11-22", "ds=2026-11-23"]
    assert seen(4) == ["ds=2026-11-20", "ds=2026-11-22", "ds=2026-11-23"]


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_day_whose_raw_folders_are_gone_is_left_alone_and_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    shown = [impression(f"{day}-{n}", at(day, 1), item=f"i{n}") for day in range(2) for n in range(3)]
    write_log(logs / "impressions", shown)
    for name, hour in (("clicks", 1.5), ("conversions", 2)):
        write_log(logs / name, [event(at(day, hour), item="i0") for day in range(2)])
    small = config(tmp_path)
    build_days(spark, small, parse_day(DAYS[0], f"{DAYS[1]}T00:00:00"))
    before, rows = read_day(small.paths.dataset, f"ds={DAYS[0]}"), rows_of(small, "labels", DAYS[0])
    shutil.rmtree(logs / "impressions" / f"ds={DAYS[0]}")

    found = build_days(spark, small, parse_day(DAYS[1], None), backfill_days=3)
    assert found.written == [f"ds={DAYS[1]}"]
    assert list(found.left_alone) == [f"ds={DAYS[0]}"]
    assert "needs ds=2026-11-23 of" in found.left_alone[f"ds={DAYS[0]}"]
    # Asked for by name it isn't built either, nor where a folder came back with less in it.
    with pytest.raises(MissingLogError, match="ds=2026-11-23 needs ds=2026-11-23"):
        build_days(spark, small, parse_day(DAYS[0], None))
    write_log(logs / "impressions", shown[:2])
    with pytest.raises(
        MissingLogError, match="from 3 impressions of 2026-11-23, of which the logs now hold 2"
    ):
        build_days(spark, small, parse_day(DAYS[0], None))
    (day,) = look_back(spark, small, parse_day(DAYS[1], None), 1, never_excused)
    assert (day.has_changed, "the logs now hold 2" in day.left_alone) == (False, True)
    assert read_day(small.paths.dataset, f"ds={DAYS[0]}") == before
    assert rows_of(small, "labels", DAYS[0]) == rows
    assert len(rows) == 3
