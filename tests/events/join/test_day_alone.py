"""A day built alone equals that day's share of one brute-force join over all logs."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.event_config import EventLogs
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.events.join.labels import label_day
from esmm_spark.events.join.sources import choose_files, read_day_logs
from esmm_spark.events.join_report import report_join
from esmm_spark.events.reading.day import Day, parse_day
from tests.events import oracle
from tests.events.small_logs import DAYS, at, config, write_log

pytestmark = pytest.mark.spark

Event = dict[str, Any]
World = tuple[list[Event], list[Event], list[Event]]

CLICK_WINDOW_S, CONVERSION_WINDOW_S = 4 * 3600, 7 * 3600
NUM_WORLDS = 2000
MIDNIGHTS = (at(1, 0), at(2, 0))


def small_world(dice: random.Random, number: int) -> World:
    """Returns logs of one user or two: chains of windows from a midnight on, ids that come again."""
    times = [dice.choice(MIDNIGHTS) + dice.choice((-1, 0, 0))]

    def moment() -> int:
        window_s = dice.choice((CLICK_WINDOW_S, CLICK_WINDOW_S, CONVERSION_WINDOW_S, 0, 1800))
        moved = dice.choice(times) + dice.choice((-1, 1)) * window_s * oracle.SECOND
        times.append(min(max(moved + dice.choice((-1, 0, 0, 0, 1)), at(0, 0)), at(4, 0) - 1))
        return times[-1]

    def events(**ids: str) -> list[Event]:
        found = {}
        for _ in range(dice.randint(1, 4)):
            named = {key: f"{number:04}-{name}{dice.randint(0, 1)}" for key, name in ids.items()}
            user = f"{number:04}-{dice.choice('uuuuv')}"
            row = {"time_us": moment(), "user_id": user, "item_id": "i", **named}
            # Two lines of one id and one time would be told apart by a hash.
            found[row["time_us"], row[next(iter(ids))]] = row
        return list(found.values())

    return (
        events(impression_id="i"),
        events(click_id="c", impression_id="i"),
        events(conversion_id="v", click_id="c"),
    )


def brute_force(
    world: World, day: Day, by_impression_id: bool, by_click_id: bool, which: str
) -> tuple[Any, Any]:
    """Returns labels of the day's impressions, and (log, what became of it) of each event of the day."""
    known = [
        [event for event in log if day.as_of_us is None or event["time_us"] <= day.as_of_us] for log in world
    ]
    ids = ("impression_id", "click_id", "conversion_id")
    impressions, clicks, conversions = (
        oracle.without_repeats(log, key) for log, key in zip(known, ids, strict=True)
    )
    if not by_impression_id:
        clicks = [{key: value for key, value in click.items() if key != "impression_id"} for click in clicks]
    if not by_click_id:
        conversions = [
            {key: value for key, value in event.items() if key != "click_id"} for event in conversions
        ]
    windows = CLICK_WINDOW_S, CONVERSION_WINDOW_S
    labels = oracle.labels(impressions, clicks, conversions, *windows, which)
    ours = {
        (shown["impression_id"], shown["time_us"]): labels.get(
            (shown["impression_id"], shown["time_us"]), (0, 0, None, None)
        )
        for shown in impressions
        if day.start_us <= shown["time_us"] < day.end_us
    }
    fates: Counter[str] = Counter()
    for click in clicks:
        if day.start_us <= click["time_us"] < day.end_us:
            owner = oracle.belongs_to_impression(click, impressions, windows[0], by_impression_id)
            is_early = oracle.click_is_before_its_cause(click, impressions, windows[0], by_impression_id)
            fates["clicks matched" if owner else "clicks orphans"] += 1
            fates["clicks before_cause"] += is_early
    for event in conversions:
        if day.start_us <= event["time_us"] < day.end_us:
            click_or_none = oracle.belongs_to_click(event, clicks, windows[1], by_click_id, which)
            fates[f"conversions {fate_of(click_or_none, impressions, day, by_impression_id)}"] += 1
            fates["conversions before_cause"] += oracle.conversion_is_before_its_cause(
                event, clicks, windows[1], by_click_id, which
            )
    return ours, fates


def fate_of(click: Event | None, impressions: list[Event], day: Day, by_impression_id: bool) -> str:
    if click is None:
        return "orphans"
    if click["time_us"] < day.start_us - by_impression_id * CLICK_WINDOW_S * oracle.SECOND:
        return "of_earlier_causes"
    owner = oracle.belongs_to_impression(click, impressions, CLICK_WINDOW_S, by_impression_id)
    return "matched" if owner else "of_orphan_causes"


@pytest.mark.parametrize(
    ("by_impression_id", "by_click_id", "which", "as_of"),
    [
        (True, False, "first", None),
        (True, False, "last", "2026-11-25T03:00:00"),
        (True, True, "last", None),
        (False, False, "first", "2026-11-25T03:00:00"),
    ],
)
def test_a_days_labels_and_report_are_its_share_of_one_join_over_all_logs(
    spark: SparkSession,
    tmp_path: Path,
    by_impression_id: bool,
    by_click_id: bool,
    which: str,
    as_of: str | None,
) -> None:
    # Many small logs are one: each is a world of its own, told apart by the ids' prefixes.
    dice = random.Random(f"{by_impression_id} {by_click_id} {which}")
    worlds = [small_world(dice, number) for number in range(NUM_WORLDS)]
    for name, log in zip(("impressions", "clicks", "conversions"), zip(*worlds, strict=True), strict=True):
        rows = [
            {**event, "time": event["time_us"], "request": event["user_id"]}
            for events in log
            for event in events
        ]
        dice.shuffle(rows)
        write_log(tmp_path / "logs" / name, rows)
    day = parse_day(DAYS[1], as_of)
    expected: dict[Any, Any] = {}
    fates: Counter[str] = Counter()
    for world in worlds:
        labels, counts = brute_force(world, day, by_impression_id, by_click_id, which)
        expected |= labels
        fates += counts

    windows = {"click_window_s": CLICK_WINDOW_S, "conversion_window_s": CONVERSION_WINDOW_S}
    clicks = {"click_id": "click_id", **({"impression_id": "impression_id"} if by_impression_id else {})}
    conversions = {"conversion_id": "conversion_id", **({"click_id": "click_id"} if by_click_id else {})}
    events = config(
        tmp_path, clicks=clicks, conversions=conversions, attribution={**windows, "conversion_click": which}
    ).logs.events
    assert isinstance(events, EventLogs)
    # Whose range would be wider than what labels need.
    funnel = Funnel(events.model_copy(update={"history": [], "crosses": []}), DEFAULT_TASKS)
    files = choose_files(funnel, day, with_features=False)
    logs = read_day_logs(spark, funnel, day, files, with_features=False)
    labelled = label_day(funnel, logs, day)
    found = oracle.labels_of_rows(labelled.impressions.collect())
    differing = {key: (label, found.get(key)) for key, label in expected.items() if label != found.get(key)}
    assert differing == {}
    assert len(found) == len(expected)
    report = report_join(labelled, funnel, day)
    names = ("matched", "orphans", "of_orphan_causes", "of_earlier_causes", "before_cause")
    assert {
        f"{log} {name}": report[log][name]
        for log in ("clicks", "conversions")
        for name in names
        if report[log][name]
    } == {name: count for name, count in fates.items() if count}
    labelled.unpersist()
    logs.unpersist()
