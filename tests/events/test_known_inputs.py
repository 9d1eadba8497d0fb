"""What tells that a day's labels must be the same: files, config and as-of."""

from pathlib import Path
from typing import Any

from esmm_spark.contracts.event_config import EventLogs
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.events.join.sources import DayFiles, time_ranges
from esmm_spark.events.known_inputs import (
    KnownInputs,
    digest_of_inputs,
    read_known_inputs,
    remember_inputs,
)
from esmm_spark.events.reading.day import parse_day
from tests.events.small_logs import config

FILES = DayFiles({}, [("logs/clicks/a", 10, 1_000)])


def funnel_of(tmp_path: Path, **events: Any) -> Funnel:
    found = config(tmp_path, **events).logs.events
    assert isinstance(found, EventLogs)
    return Funnel(found, DEFAULT_TASKS)


def test_inputs_differ_by_file_config_and_what_is_known_as_of(tmp_path: Path) -> None:
    events, day = funnel_of(tmp_path), parse_day("2026-11-24", None)
    same = digest_of_inputs(events, day, FILES)
    for other in (("logs/clicks/a", 10, 1_001), ("logs/clicks/a", 11, 1_000), ("logs/clicks/b", 10, 1_000)):
        assert digest_of_inputs(events, day, DayFiles({}, [other])) != same
    wider = funnel_of(tmp_path, attribution={"click_window_s": 3601})
    assert digest_of_inputs(wider, day, FILES) != same
    # The last conversion that can count comes an hour and two days after the day, on the 27th at 01:00.
    assert max(last for _, last in time_ranges(events, day).values()) < parse_day("2026-11-27", None).end_us
    late, later, early = (
        parse_day("2026-11-24", as_of)
        for as_of in ("2026-11-27T01:00:00", "2026-11-29T00:00:00", "2026-11-27T00:59:00")
    )
    assert digest_of_inputs(events, late, FILES) == digest_of_inputs(events, later, FILES) == same
    assert digest_of_inputs(events, early, FILES) != same


def test_what_is_known_is_kept_by_day_and_nothing_is_known_of_a_damaged_file(tmp_path: Path) -> None:
    dataset = str(tmp_path)
    assert read_known_inputs(dataset) == {}
    for name, digest in (("ds=2026-11-23", "a"), ("ds=2026-11-24", "b"), ("ds=2026-11-23", "c")):
        remember_inputs(dataset, name, KnownInputs("labels", digest))
    known = {"ds=2026-11-23": KnownInputs("labels", "c"), "ds=2026-11-24": KnownInputs("labels", "b")}
    assert read_known_inputs(dataset) == known
    for damaged in ("", "[1]", '{"ds=2026-11-23": 1}', '{"ds=2026-11-23": ["one"]}'):
        (tmp_path / "inputs.json").write_text(damaged)
        assert read_known_inputs(dataset) == {}
