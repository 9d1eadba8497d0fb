"""The joins of event logs by brute force: plain loops over dicts, written from the rules, sharing no code.

Times are integers; a window of w seconds is w * SECOND.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pyspark.sql import Row

SECOND = 1_000_000
Event = dict[str, Any]


def belongs_to_impression(
    click: Event, impressions: Sequence[Event], window_s: int, by_id: bool
) -> Event | None:
    window = window_s * SECOND
    if by_id:
        same = [i for i in impressions if i["impression_id"] == click["impression_id"]]
        before = [i for i in same if click["time_us"] - window <= i["time_us"] <= click["time_us"]]
        after = [i for i in same if click["time_us"] < i["time_us"] <= click["time_us"] + window]
        if before:
            return max(before, key=lambda i: i["time_us"])
        return min(after, key=lambda i: i["time_us"]) if after else None
    candidates = [
        i
        for i in impressions
        if (i["user_id"], i["item_id"]) == (click["user_id"], click["item_id"])
        and click["time_us"] - window <= i["time_us"] <= click["time_us"]
    ]
    return max(candidates, key=lambda i: (i["time_us"], i["impression_id"])) if candidates else None


def belongs_to_click(
    conversion: Event, clicks: Sequence[Event], window_s: int, by_id: bool, which: str
) -> Event | None:
    window = window_s * SECOND
    candidates = []
    for click in clicks:
        if by_id:
            same = click["click_id"] == conversion["click_id"]
        else:
            same = (click["user_id"], click["item_id"]) == (conversion["user_id"], conversion["item_id"])
        if same and conversion["time_us"] - window <= click["time_us"] <= conversion["time_us"]:
            candidates.append(click)

    def order(click: Event) -> tuple[Any, ...]:
        return (click["time_us"], click.get("click_id", ""), click.get("impression_id", ""))

    if not candidates:
        return None
    return max(candidates, key=order) if which == "last" or by_id else min(candidates, key=order)


def click_is_before_its_cause(click: Event, impressions: Sequence[Event], window_s: int, by_id: bool) -> bool:
    owner = belongs_to_impression(click, impressions, window_s, by_id)
    if by_id:
        return owner is not None and owner["time_us"] > click["time_us"]
    return owner is None and any(
        (i["user_id"], i["item_id"]) == (click["user_id"], click["item_id"])
        and click["time_us"] < i["time_us"] <= click["time_us"] + window_s * SECOND
        for i in impressions
    )


def conversion_is_before_its_cause(
    conversion: Event, clicks: Sequence[Event], window_s: int, by_id: bool, which: str
) -> bool:
    if belongs_to_click(conversion, clicks, window_s, by_id, which) is not None:
        return False
    keys = ["click_id"] if by_id else ["user_id", "item_id"]
    return any(
        all(c[key] == conversion[key] for key in keys)
        and conversion["time_us"] < c["time_us"] <= conversion["time_us"] + window_s * SECOND
        for c in clicks
    )


def labels_of_rows(rows: Iterable[Row]) -> dict[tuple[str, int], Any]:
    """Returns what `labels` would, of labelled impressions as Spark has collected them."""
    return {
        (row.impression_id, row.time_us): (
            row.num_clicks,
            row.num_conversions,
            row.click_time_us,
            row.conversion_time_us,
        )
        for row in rows
    }


def labels(
    impressions: Sequence[Event],
    clicks: Sequence[Event],
    conversions: Sequence[Event],
    click_window_s: int,
    conversion_window_s: int,
    which: str,
) -> dict[tuple[str, int], tuple[int, int, int | None, int | None]]:
    """(impression_id, time) -> number of clicks, of conversions, times of the first click and conversion."""
    clicked: dict[tuple[str, int], list[int]] = {}
    converted: dict[tuple[str, int], list[int]] = {}
    for click in clicks:
        owner = belongs_to_impression(click, impressions, click_window_s, "impression_id" in click)
        if owner:
            clicked.setdefault((owner["impression_id"], owner["time_us"]), []).append(click["time_us"])
    for conversion in conversions:
        click_or_none = belongs_to_click(
            conversion, clicks, conversion_window_s, "click_id" in conversion, which
        )
        if click_or_none:
            click = click_or_none
            owner = belongs_to_impression(click, impressions, click_window_s, "impression_id" in click)
            if owner:
                key = (owner["impression_id"], owner["time_us"])
                converted.setdefault(key, []).append(conversion["time_us"])
    return {
        key: (len(times), len(converted.get(key, [])), min(times), min(converted.get(key, []), default=None))
        for key, times in clicked.items()
    }


def without_repeats(events: Sequence[Event], id_key: str) -> list[Event]:
    """Of the events of one id on one UTC day, the earliest."""
    kept: dict[tuple[str, int], Event] = {}
    for event in sorted(events, key=lambda event: event["time_us"]):
        kept.setdefault((event[id_key], event["time_us"] // (86_400 * SECOND)), event)
    return list(kept.values())
