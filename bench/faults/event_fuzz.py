"""Event rows mutated at random, through the whole of a day's preprocess, against plain Python.

Many users of a few events each, so that the brute force of tests/events/oracle.py stays short; half of the
rows are mutated: ids that are missing or hold what no id may, times that are missing or of another century,
events told twice, events moved onto the edge of a window. Each impression must have the labels, and each
log the counts of lines and rejects, that the rules of docs/events.md give.
"""

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from bench.workspace import say
from esmm_spark.contracts.errors import UserError
from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.files.manifest_file import read_manifest
from tests.events import oracle
from tests.events.small_logs import DAYS, Event, at, config, event, impression, rows_of

ROWS_PER_BATCH = 50_000
_MUTATED = 0.5
_MEAN_EVENTS = 12
_CLICK_WINDOW_S, _CONVERSION_WINDOW_S = 3600, 2 * 86_400  # small_logs.config's
_LAST = "last"
_BAD_IDS = {None: "missing_id", "": "missing_id", "a,b": "bad_id", "a\x01b": "bad_id", "a\nb": "bad_id"}
_BAD_TIMES = {None: "unparsable_time", -1: "time_out_of_range", 4_200_000_000_000_000: "time_out_of_range"}
_DAY = 1  # of DAYS
_RARE = ("clicks", "conversions")  # their folders of other days are not there

Logs = dict[str, list[Event]]
Folders = dict[str, dict[str, list[Event]]]  # log -> day -> events


def fuzz_events(spark: SparkSession, folder: Path, rows: int, seed: int) -> dict[str, Any]:
    """Returns counts of rows, and of batches that differ from the oracle, with their seeds.

    Args:
        spark: the session.
        folder: emptied before each batch.
        rows: at least, of all logs together.
        seed: of the rows; batch b's is `<seed>-events-<b>`.
    """
    read, rejected, labels, differ = 0, Counter[str](), Counter[str](), []
    batch = 0
    while read < rows:
        number = f"{seed}-events-{batch}"
        found = _batch(spark, folder, number)
        read, batch = read + found["rows"], batch + 1
        rejected.update(found["rejected"])
        labels.update(found["labels"])
        if found["differ"]:
            differ.append(f"{number}: {found['differ']}")
        say(f"fuzz: {read:,} of {rows:,} rows of events, {len(differ)} batches differ")
    return {"rows": read, "labels": dict(labels), "rejects": dict(sorted(rejected.items())), "differ": differ}


def _batch(spark: SparkSession, folder: Path, seed: str) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    good, logs, rejects = mutated_events(random.Random(seed), ROWS_PER_BATCH)
    settings = config(folder)
    for name, events in logs.items():
        for day, own in events.items():
            part = folder / "logs" / name / f"ds={day}" / "part-0.parquet"
            part.parent.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(own), part)
    try:
        build_days(spark, settings, parse_day(DAYS[_DAY], None), 0, _RARE)
    except UserError as error:
        return {"rows": ROWS_PER_BATCH, "rejected": {}, "labels": {}, "differ": f"refused: {error}"}
    expected = _expected(good)
    found = {
        row["impression_id"]: (row["num_clicks"], row["num_conversions"])
        for row in rows_of(settings, "labels", DAYS[_DAY])
    }
    differ = []
    if found != expected:
        ids = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
        differ.append(
            f"labels of {len(ids)} impressions: {[(i, found.get(i), expected.get(i)) for i in ids[:3]]}"
        )
    for source in read_manifest(settings.paths.dataset).sources:
        name = source.name.rpartition(".")[2]
        those = (dict(rejects[name]), len(logs[name][DAYS[_DAY]]))
        if (dict(source.rejects), source.lines_read) != those:
            differ.append(f"{name}: {source.lines_read} lines, {source.rejects}, not {those}")
    return {
        "rows": sum(len(own) for events in logs.values() for own in events.values()),
        "rejected": sum(rejects.values(), Counter()),
        "labels": Counter(
            clicks=sum(clicks > 0 for clicks, _ in expected.values()),
            conversions=sum(bought > 0 for _, bought in expected.values()),
            impressions=len(expected),
        ),
        "differ": "; ".join(differ),
    }


def mutated_events(draw: random.Random, rows: int) -> tuple[list[Logs], Folders, dict[str, Counter[str]]]:
    """Returns each user's events that are accepted, all rows by day's folder, and the rejects of the day."""
    good: list[Logs] = []
    logs: Folders = {name: {} for name in ("impressions", "clicks", "conversions")}
    rejects = {name: Counter[str]() for name in logs}
    for user in range(rows // _MEAN_EVENTS):
        own = _events_of(draw, f"u{user}")
        good.append(own)
        for name, events in own.items():
            for row in list(events):
                day = DAYS[(row["time"] - at(0, 0)) // (86_400 * oracle.SECOND)]
                told = [row]
                if draw.random() < _MUTATED:
                    changed, reason = _mutated(draw, name, row)
                    told.append(changed)
                    if reason is None:
                        events.append(changed)
                    elif day == DAYS[_DAY]:
                        rejects[name][reason] += 1
                logs[name].setdefault(day, []).extend(told)
    for days in logs.values():
        for events in days.values():
            draw.shuffle(events)
    return good, logs, rejects


def _events_of(draw: random.Random, user: str) -> Logs:
    """Returns a user's events of a day: impressions of few items, and events around the edges of windows."""
    shown = [
        impression(
            f"{user}-{n}", at(_DAY, 6) + draw.randrange(8) * 900 * oracle.SECOND, user, draw.choice("ij")
        )
        for n in range(draw.randrange(1, 5))
    ]
    edges = (0, _CLICK_WINDOW_S, draw.randrange(2 * _CLICK_WINDOW_S))
    clicks = [
        _event_near(draw, draw.choice(shown)["time"] + draw.choice(edges) * oracle.SECOND, user)
        for _ in range(draw.randrange(4))
    ]
    times = [click["time"] for click in clicks] or [shown[0]["time"]]
    edges = (0, _CONVERSION_WINDOW_S, draw.randrange(6 * 3600))
    sold = [
        _event_near(draw, draw.choice(times) + draw.choice(edges) * oracle.SECOND, user)
        for _ in range(draw.randrange(3))
    ]
    return {"impressions": shown, "clicks": clicks, "conversions": sold}


def _event_near(draw: random.Random, time_us: int, user: str) -> Event:
    return event(time_us + draw.choice((-1, 0, 0, 1)), user, draw.choice("ij"))


def _mutated(draw: random.Random, log: str, row: Event) -> tuple[Event, str | None]:
    """Returns a changed copy of a row, and why it is rejected, None where it isn't."""
    changed, how = dict(row), draw.randrange(3)
    if how == 0:
        more = ["impression_id", "request"] if log == "impressions" else []
        changed[draw.choice(["user_id", "item_id", *more])], reason = draw.choice(list(_BAD_IDS.items()))
        return changed, reason
    if how == 1:
        changed["time"], reason = draw.choice(list(_BAD_TIMES.items()))
        return changed, reason
    if log != "impressions":
        return changed, None
    # Told again, later: the first counts.
    changed["time"] += oracle.SECOND
    return changed, "duplicate_impression"


def _expected(good: list[Logs]) -> dict[str, tuple[int, int]]:
    """Returns impression id -> its clicks and conversions."""
    found: dict[str, tuple[int, int]] = {}
    for own in good:
        logs = ([{**row, "time_us": row["time"]} for row in events] for events in own.values())
        impressions, clicks, conversions = ([_without_ids(row) for row in log] for log in logs)
        labels = oracle.labels(impressions, clicks, conversions, _CLICK_WINDOW_S, _CONVERSION_WINDOW_S, _LAST)
        for row in impressions:
            num_clicks, num_conversions, *_ = labels.get((row["impression_id"], row["time_us"]), (0, 0))
            found[row["impression_id"]] = num_clicks, num_conversions
    return found


def _without_ids(row: Event) -> Event:
    return {key: row[key] for key in ("impression_id", "user_id", "item_id", "time_us") if key in row}
