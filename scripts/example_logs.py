#!/usr/bin/env python
"""Writes the small made logs that docs/your-logs.md walks through: the same world in three shapes.

python scripts/example_logs.py table|requests|export DIR [--requests-per-day N] [--seed S]
"""

import argparse
import csv
import json
import math
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

DAYS = [date(2026, 11, 20) + timedelta(days=number) for number in range(4)]
_USERS, _ITEMS, _SHOWN = 400, 120, 6
_CATEGORIES = ("shoes", "shirts", "bags", "hats", "coats", "rings")
_CITIES = ("north", "south", "east", "west")
_OF_VISIT, _OF_ITEM = ("request", "shown_at", "user", "city"), ("item", "category", "price", "position")
_COLUMNS = (*_OF_VISIT, *_OF_ITEM, "is_click", "ordered_at")

Line = dict[str, Any]


class Shown(NamedTuple):
    """An impression, and when it was clicked and ordered, if it was."""

    item: int
    category: str
    price: float
    clicked: datetime | None
    ordered: datetime | None


class Visit(NamedTuple):
    """A request of a user, with what it showed."""

    number: int
    user: int
    city: str
    at: datetime
    shown: list[Shown]


def main() -> None:
    """Writes what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", choices=("table", "requests", "export"))
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--requests-per-day", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    arguments = parser.parse_args()
    write = {"table": write_table, "requests": write_requests, "export": write_export}[arguments.shape]
    write(arguments.folder, arguments.requests_per_day, arguments.seed)


def visits(requests_per_day: int, seed: int, zone: str) -> Iterator[Visit]:
    """Yields visits in the order of their times, on each of DAYS of a time zone."""
    drawn = random.Random(seed)
    number = 0
    for day in DAYS:
        start = datetime.combine(day, time(), ZoneInfo(zone))
        for second in sorted(drawn.randrange(86_400) for _ in range(requests_per_day)):
            user, number = drawn.randrange(_USERS), number + 1
            at = start + timedelta(seconds=second)
            items = drawn.sample(range(_ITEMS), _SHOWN)
            shown = [_shown(drawn, user, item, place, at) for place, item in enumerate(items)]
            yield Visit(number, user, _CITIES[user % len(_CITIES)], at, shown)


def _shown(drawn: random.Random, user: int, item: int, place: int, at: datetime) -> Shown:
    """Draws what becomes of an impression: users have a category that they like, items a price."""
    category, price = _CATEGORIES[item % len(_CATEGORIES)], 4.99 + 7 * (item % 13)
    is_liked = user % len(_CATEGORIES) == item % len(_CATEGORIES)
    click = _sigmoid(-1.6 + 1.8 * is_liked + 0.6 * math.sin(item) - 0.25 * place)
    order = _sigmoid(0.4 + 0.8 * math.cos(item) - 0.025 * price)
    clicked = at + timedelta(seconds=drawn.randrange(5, 300)) if drawn.random() < click else None
    ordered = None
    if clicked is not None and drawn.random() < order:
        ordered = clicked + timedelta(seconds=drawn.randrange(60, 4 * 3600))
    return Shown(item, category, price, clicked, ordered)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def write_table(folder: Path, requests_per_day: int, seed: int) -> None:
    """Writes `impressions.csv`, a line per impression, its times those of Berlin's clocks."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "impressions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for visit in visits(requests_per_day, seed, "Europe/Berlin"):
            for place, each in enumerate(visit.shown):
                ordered = "" if each.ordered is None else f"{each.ordered:%Y-%m-%d %H:%M:%S}"
                of_user = (f"r{visit.number}", f"{visit.at:%Y-%m-%d %H:%M:%S}", f"u{visit.user}", visit.city)
                of_item = (f"i{each.item}", each.category, round(each.price, 2), place)
                writer.writerow([*of_user, *of_item, int(each.clicked is not None), ordered])


def write_requests(folder: Path, requests_per_day: int, seed: int) -> None:
    """Writes `requests`, `orders` and `refunds`, in folders of Shanghai's days."""
    drawn = random.Random(seed)
    requests: list[Line] = []
    orders: list[Line] = []
    refunds: list[Line] = []
    for visit in visits(requests_per_day, seed, "Asia/Shanghai"):
        items: list[Line] = [
            {
                "item": f"i{each.item}",
                "category": each.category,
                "price": round(each.price, 2),
                "clicked_at": _local(each.clicked),
            }
            for each in visit.shown
        ]
        user = {"id": f"u{visit.user}", "city": visit.city}
        requests.append({"request": f"r{visit.number}", "at": _local(visit.at), "user": user, "shown": items})
        bought = [each for each in visit.shown if each.ordered is not None]
        if not bought:
            continue
        paid = max(each.ordered for each in bought if each.ordered is not None)
        order: Line = {"id": f"o{visit.number}", "status": drawn.choice(["paid"] * 9 + ["test"])}
        lines = [{"item": f"i{each.item}", "price": round(each.price, 2)} for each in bought]
        # Some were never paid.
        paid_at = None if drawn.random() < 0.1 else _local(paid)
        orders.append(
            {**order, "user": user["id"], "created_at": _local(paid), "paid_at": paid_at, "lines": lines}
        )
        for place in range(len(lines)):
            if drawn.random() < 0.2:
                back = paid + timedelta(hours=drawn.randrange(1, 20))
                refunds.append({"order": {"id": order["id"], "line": place}, "refunded_at": _local(back)})
    for name, log, key in (
        ("requests", requests, "at"),
        ("orders", orders, "created_at"),
        ("refunds", refunds, "refunded_at"),
    ):
        _write_days(folder / name, log, key)


def _local(at: datetime | None) -> str | None:
    return None if at is None else at.replace(tzinfo=None).isoformat(sep=" ")


def write_export(folder: Path, requests_per_day: int, seed: int) -> None:
    """Writes events as GA4 exports them: parameters as a list of keys and values, items as a list.

    Times are microseconds since 1970, `event_date` and folders are New York's days.
    """
    zone = "America/New_York"
    events: list[Line] = []
    for visit in visits(requests_per_day, seed, zone):
        items = [_item(each, place) for place, each in enumerate(visit.shown)]
        events.append(_event("view_item_list", visit.at, visit, items))
        for item, each in zip(items, visit.shown, strict=True):
            if each.clicked is not None:
                events.append(_event("select_item", each.clicked, visit, [item]))
            if each.ordered is not None:
                order = {"key": "transaction_id", "value": {"string_value": f"t{visit.number}"}}
                events.append(_event("purchase", each.ordered, visit, [item], [order]))
        events.append(_event("page_view", visit.at, visit, None))
    for event in events:
        at = datetime.fromtimestamp(int(event["event_timestamp"]) / 1e6, ZoneInfo(zone))
        event["event_date"] = f"{at:%Y%m%d}"
    _write_days(folder, sorted(events, key=lambda event: int(event["event_timestamp"])), "event_date")


def _item(each: Shown, place: int) -> Line:
    price = {"price": round(each.price, 2), "item_list_index": str(place)}
    return {"item_id": f"i{each.item}", "item_category": each.category, **price}


def _event(
    name: str, at: datetime, visit: Visit, items: list[Line] | None, parameters: Iterable[Line] = ()
) -> Line:
    session = {"key": "ga_session_id", "value": {"int_value": str(visit.number)}}
    source = {"key": "source", "value": {"string_value": ("ads", "mail", "direct")[visit.user % 3]}}
    micros = (at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return {
        "event_timestamp": str(micros),
        "event_name": name,
        "event_params": [session, source, *parameters],
        "user_pseudo_id": f"{visit.user}.{visit.user * 7919}",
        "geo": {"region": visit.city},
        # An event without items has none, not an empty list.
        **({} if items is None else {"items": items}),
    }


def _write_days(folder: Path, lines: Iterable[Line], key: str) -> None:
    """Writes JSON lines into folders `dt=20261120`, by the day that `key` begins with."""
    by_day: dict[str, list[Line]] = {}
    for line in lines:
        by_day.setdefault(line[key][:10].replace("-", ""), []).append(line)
    for day, of_day in by_day.items():
        (folder / f"dt={day}").mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in of_day)
        (folder / f"dt={day}" / "part-0.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
