"""A day of a tree of tasks, built alone, is its share of one brute-force join over all logs."""

import random
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.event_config import EventLogs
from esmm_spark.contracts.funnel import Funnel
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.events.join.labels import label_day
from esmm_spark.events.join.sources import choose_files, label_ranges, read_day_logs
from esmm_spark.events.join_report import report_join
from esmm_spark.events.reading.day import parse_day
from tests.events import oracle
from tests.events.small_logs import DAYS, Event, at, config, write_log

HOUR_S = 3600
# Task -> (the task given, window, whether the cause's id is logged, which of several).
TREE: dict[str, tuple[str | None, int, bool, str]] = {
    "click": (None, HOUR_S, True, "last"),
    "conversion": ("click", 20 * HOUR_S, False, "last"),
    "repurchase": ("conversion", 30 * HOUR_S, False, "first"),
    "review": ("conversion", 5 * HOUR_S, True, "last"),
    "share": (None, 2 * HOUR_S, False, "last"),
}
NUM_WORLDS = 2000
MIDNIGHTS = [at(day, 0) for day in (1, 2)]
World = dict[str, list[Event]]


def small_world(dice: random.Random, number: int) -> World:
    """Returns logs of one user: events a window after each other, to the second, around midnights."""
    times = [dice.choice(MIDNIGHTS) + dice.choice((-1, 0, 0))]
    windows = [window_s for _, window_s, *_ in TREE.values()]

    def moment() -> int:
        moved = dice.choice(times) + dice.choice((-1, 1, 1)) * dice.choice([*windows, 0, 900]) * oracle.SECOND
        times.append(min(max(moved + dice.choice((-1, 0, 0, 0, 1)), at(0, 0)), at(4, 0) - 1))
        return times[-1]

    def events(**ids: str) -> list[Event]:
        found = {}
        for _ in range(dice.randint(1, 4)):
            row: Event = {"time_us": moment(), "user_id": f"{number:04}", "item_id": "i"}
            row |= {key: f"{number:04}-{name}{dice.randint(0, 1)}" for key, name in ids.items()}
            # Two lines of one id and one time would be told apart by a hash.
            found[row["time_us"], row[next(iter(ids))]] = row
        return list(found.values())

    world = {"impressions": events(impression_id="impression")}
    for task, (cause, _, is_by_id, _) in TREE.items():
        cause_id = {f"{cause or 'impression'}_id": cause or "impression"} if is_by_id else {}
        world[task] = events(**{f"{task}_id": task}, **cause_id)
    return world


def owner_of(task: str, event: Event, world: World) -> Event | None:
    """Returns the impression that an event belongs to, by the rules alone."""
    cause, window_s, is_by_id, which = TREE[task]
    if cause is None:
        return oracle.belongs_to_impression(event, world["impressions"], window_s, is_by_id)
    key = f"{cause}_id"
    causes = [{**each, "click_id": each[key]} for each in world[cause]]
    asked = {**event, "click_id": event.get(key)}
    found = oracle.belongs_to_click(asked, causes, window_s, is_by_id, which)
    return None if found is None else owner_of(cause, found, world)


def brute_force(world: World, day_start_us: int, day_end_us: int) -> dict[tuple[str, int], Any]:
    """Returns (impression_id, time) -> task -> the times of its events, of the day's impressions."""
    kept = {
        name: oracle.without_repeats(log, "impression_id" if name == "impressions" else f"{name}_id")
        for name, log in world.items()
    }
    found: dict[tuple[str, int], Any] = {
        (shown["impression_id"], shown["time_us"]): {task: [] for task in TREE}
        for shown in kept["impressions"]
        if day_start_us <= shown["time_us"] < day_end_us
    }
    for task in TREE:
        for event in kept[task]:
            owner = owner_of(task, event, kept)
            if owner and (owner["impression_id"], owner["time_us"]) in found:
                found[owner["impression_id"], owner["time_us"]][task].append(event["time_us"])
    return found


def funnel(tmp_path: Path) -> Funnel:
    small = config(tmp_path, attribution={"click_window_s": HOUR_S, "conversion_window_s": 20 * HOUR_S})
    events = small.logs.events
    assert events is not None
    shared = {"day_folders": "ds", "time": "time_us", "time_unit": "us"}
    logs = {}
    for task, (cause, window_s, is_by_id, which) in TREE.items():
        ids = {"event_id": f"{task}_id", "user_id": "user_id", "item_id": "item_id"}
        if is_by_id:
            ids["parent_id"] = f"{cause or 'impression'}_id"
        path = str(tmp_path / "logs" / task)
        logs[task] = {**shared, **ids, "path": path, "window_s": window_s, "parent_event": which}
    impressions = {**shared, "path": str(tmp_path / "logs" / "impressions")}
    impressions |= {"impression_id": "impression_id", "user_id": "user_id", "item_id": "item_id"}
    tasks = Tasks.model_validate({task: {"given": cause} for task, (cause, *_) in TREE.items()})
    return Funnel(EventLogs.model_validate({"impressions": impressions, "tasks": logs}), tasks)


@pytest.mark.spark
def test_a_days_labels_of_a_tree_are_its_share_of_one_join_over_all_logs(
    spark: SparkSession, tmp_path: Path
) -> None:
    dice = random.Random(7)
    worlds = [small_world(dice, number) for number in range(NUM_WORLDS)]
    for name in worlds[0]:
        rows = [{**event, "time": event["time_us"]} for world in worlds for event in world[name]]
        write_log(tmp_path / "logs" / name, rows)
    day = parse_day(DAYS[1], None)
    expected: dict[tuple[str, int], Any] = {}
    for world in worlds:
        expected |= brute_force(world, day.start_us, day.end_us)
    assert all(sum(bool(times[task]) for times in expected.values()) > 10 for task in TREE), "too few"

    built = funnel(tmp_path)
    files = choose_files(built, day, with_features=False)
    labelled = label_day(built, read_day_logs(spark, built, day, files, with_features=False), day)
    found = {
        (row.impression_id, row.time_us): {
            task: (row[f"num_{task}s"], row[task], row[f"{task}_time_us"]) for task in TREE
        }
        for row in labelled.impressions.collect()
    }
    assert found == {
        key: {
            task: (len(times), int(bool(times)), min(times, default=None)) for task, times in of_key.items()
        }
        for key, of_key in expected.items()
    }
    report = report_join(labelled, built, day)
    for task in TREE:
        of_day = [
            (world, event)
            for world in worlds
            for event in oracle.without_repeats(world[task], f"{task}_id")
            if day.start_us <= event["time_us"] < day.end_us
        ]
        assert report[task]["total"] == len(of_day)
        counts = report[task]
        lost = counts["orphans"] + counts["of_orphan_causes"] + counts["of_earlier_causes"]
        assert counts["matched"] + lost == counts["total"]


def test_each_log_is_read_as_far_as_its_chain_and_its_children_reach(tmp_path: Path) -> None:
    ranges = label_ranges(funnel(tmp_path), parse_day(DAYS[1], None))
    # Clicks name their impression: they may come an hour before it; shares don't.
    assert ranges == {
        "impressions": (at(0, 22), at(2, 2) - 1),
        "click": (at(0, 23) - 20 * HOUR_S * oracle.SECOND, at(2, 21) - 1),
        "conversion": (at(0, 23) - 30 * HOUR_S * oracle.SECOND, at(2, 21 + 30) - 1),
        "repurchase": (at(0, 23), at(2, 21 + 30) - 1),
        "review": (at(0, 23), at(2, 21 + 5) - 1),
        "share": (at(1, 0), at(2, 2) - 1),
    }


def test_all_windows_of_the_longest_chain_make_a_label_sure(tmp_path: Path) -> None:
    assert funnel(tmp_path).longest_window_s == 51 * HOUR_S
