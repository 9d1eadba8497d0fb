"""Which day folders must be there, and what is said where one is missing."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esmm_spark.contracts.errors import MissingLogError
from esmm_spark.contracts.manifest import DayCounts, DayPartition
from esmm_spark.contracts.schemas.layout import DAY_PARTITION, EXAMPLES
from esmm_spark.events.join.needed_folders import excuses, needed_days, never_excused, require_folders
from esmm_spark.events.join.sources import time_ranges
from esmm_spark.events.reading.day import parse_day
from esmm_spark.reading.files import list_log_files
from tests.events.small_logs import at, config, event, impression, write_log


def november(*days: int) -> list[date]:
    return [date(2026, 11, day) for day in days]


# Needed are events from 22 to 26.
@pytest.mark.parametrize(
    ("present", "as_of", "newest", "needed"),
    [
        ((20, 21, 22, 23, 24, 25, 26, 27), None, 27, (22, 23, 24, 25, 26)),
        ((23, 24), None, 24, (23, 24)),
        # It begins later, or ends earlier: by itself that is no gap.
        ((24,), None, 27, (24,)),
        ((25, 26), None, 26, (24, 25, 26)),
        ((), None, 27, (24,)),
        # A gap is, and so is an end before that of other logs where it is said as of when.
        ((22, 26), None, 26, (22, 23, 24, 25, 26)),
        ((23, 24), "2026-11-26T06:00:00", 27, (23, 24, 25)),
        ((23, 24), "2026-11-27T00:00:00", 25, (23, 24, 25)),
        ((23, 24), "2026-11-26T06:00:00", 24, (23, 24)),
        ((23, 24, 25), "2026-11-24T06:00:00", 25, (23, 24)),
    ],
)
def test_needed_are_the_day_and_those_of_the_logs_life_that_its_windows_reach(
    present: Sequence[int], as_of: str | None, newest: int, needed: Sequence[int]
) -> None:
    range_us = at(-1, 5), at(3, 5)
    day = parse_day("2026-11-24", as_of)
    assert needed_days(november(*present), range_us, day, date(2026, 11, newest)) == november(*needed)


def require(tmp_path: Path, day: str = "2026-11-24", allowed: Sequence[str] = ()) -> None:
    funnel = config(tmp_path).funnel
    configs = funnel.logs
    files = {name: list_log_files(log.path, log.day_folders) for name, log in configs.items()}
    parsed = parse_day(day, None)
    is_excused = excuses(str(tmp_path / "dataset"), allowed, parsed.date)
    require_folders(configs, files, time_ranges(funnel, parsed), parsed, is_excused)


def write_whole_logs(logs: Path) -> None:
    write_log(logs / "impressions", [impression(f"i{day}", at(day, 1)) for day in range(3)])
    for name in ("clicks", "conversions"):
        write_log(logs / name, [event(at(day, 2)) for day in range(3)])


@pytest.mark.parametrize("log", ["impressions", "clicks", "conversions"])
def test_a_day_without_a_folder_of_a_log_or_with_an_empty_one_is_refused(tmp_path: Path, log: str) -> None:
    write_whole_logs(tmp_path / "logs")
    require(tmp_path)
    (file,) = (tmp_path / "logs" / log / "ds=2026-11-24").iterdir()
    empty = pq.read_table(file).slice(0, 0)
    for spoil in (
        lambda: pq.write_table(empty, file),
        lambda: file.write_bytes(b""),
        file.unlink,
        file.parent.rmdir,
    ):
        spoil()
        with pytest.raises(
            MissingLogError, match=rf"needs ds=2026-11-24 of .*{log}: no such.*--allow-missing {log};"
        ):
            require(tmp_path)
        require(tmp_path, allowed=[log])


def test_a_gap_in_what_the_windows_reach_is_refused_too_unless_that_day_was_built_without(
    tmp_path: Path,
) -> None:
    write_whole_logs(tmp_path / "logs")
    (file,) = (tmp_path / "logs" / "clicks" / "ds=2026-11-24").iterdir()
    file.unlink()
    with pytest.raises(MissingLogError, match="ds=2026-11-25 needs ds=2026-11-24 of"):
        require(tmp_path, day="2026-11-25")
    folder = tmp_path / "dataset" / EXAMPLES / "ds=2026-11-24"
    folder.mkdir(parents=True)
    day = DayCounts(as_of=None, label_digest="", immature=0, sources=[], join={}, allowed_missing=["clicks"])
    (folder / DAY_PARTITION).write_text(DayPartition(examples=None, day=day).model_dump_json())
    (folder / "_SUCCESS").write_text("")
    require(tmp_path, day="2026-11-25")
    with pytest.raises(MissingLogError, match="ds=2026-11-24 needs ds=2026-11-24 of"):
        require(tmp_path, day="2026-11-24")


def test_a_log_without_day_folders_must_hold_something(tmp_path: Path) -> None:
    funnel = config(
        tmp_path, **{name: {"day_folders": None} for name in ("impressions", "clicks", "conversions")}
    ).funnel
    day, configs = parse_day("2026-11-24", None), funnel.logs
    files: dict[str, list[tuple[str, date | None]]] = {name: [("some", None)] for name in configs}
    files["clicks"] = []
    ranges = time_ranges(funnel, day)
    with pytest.raises(
        MissingLogError, match=r"no files in .*clicks, or only empty ones.*--allow-missing clicks"
    ):
        require_folders(configs, files, ranges, day, never_excused)
    require_folders(configs, files, ranges, day, excuses(str(tmp_path), ["clicks"], day.date))


def test_an_empty_table_is_no_reason_to_call_a_folder_empty_if_another_file_has_lines(tmp_path: Path) -> None:
    write_whole_logs(tmp_path / "logs")
    folder = tmp_path / "logs" / "clicks" / "ds=2026-11-24"
    pq.write_table(pa.table({"time": pa.array([], pa.int64())}), folder / "a.parquet")
    require(tmp_path)
