"""Event logs of one day for the events stage: evenly spread, with a bot user, or with an item that sells.

    impressions/ds=.../   time (ms), impression_id, user_id, item_id, request_id, category
    clicks/ds=.../        time, click_id, user_id, item_id, category
    conversions/ds=.../   time, conversion_id, user_id, item_id

5% of the impressions are clicked, as many were the day before, and 10% of the day's clicks convert.

Clicks carry no impression id, so that both joins go by user and item: the ones that skew can hurt.
"""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DAY, DAY_BEFORE = "2026-11-23", "2026-11-22"
VARIANTS = ("even", "bot", "item")

_DAY_MS = 86_400_000
_START_MS = 1_795_392_000_000  # DAY, 00:00 UTC
_IMPRESSIONS_PER_USER, _IMPRESSIONS_PER_ITEM, _ITEMS_PER_CATEGORY = 50, 20, 100
_IMPRESSIONS_PER_REQUEST = 20
_CTR, _CVR = 0.05, 0.1
_BOT_SHARE, _ITEM_SHARE = 0.2, 0.3
_ROWS_PER_FILE = 500_000

Ints = npt.NDArray[np.int64]


def write_event_logs(folder: Path, num_impressions: int, variant: str, seed: int) -> None:
    """Writes the three logs below `folder`.

    Args:
        folder: the root of the logs.
        num_impressions: of the day.
        variant: `even`; `bot`: one user makes 20% of the impressions; `item`: one item has 30% of the sales.
        seed: same seed, same logs.
    """
    random = np.random.default_rng(seed)
    user = 1 + random.integers(max(1, num_impressions // _IMPRESSIONS_PER_USER), size=num_impressions)
    item = 1 + random.integers(max(1, num_impressions // _IMPRESSIONS_PER_ITEM), size=num_impressions)
    if variant == "bot":
        user[random.random(num_impressions) < _BOT_SHARE] = 0
    user = np.sort(user)
    time = random.integers(_DAY_MS, size=num_impressions)
    clicked = np.flatnonzero(random.random(num_impressions) < _CTR)
    converted = random.random(len(clicked)) < _CVR
    if variant == "item":
        sold = converted & (random.random(len(clicked)) < _ITEM_SHARE)
        item[clicked[sold]] = 0
    number_of_user = np.arange(num_impressions) - np.searchsorted(user, user)
    _write(
        folder / "impressions" / f"ds={DAY}",
        {
            "time": _START_MS + time,
            "impression_id": _text("i", np.arange(num_impressions)),
            "user_id": _text("u", user),
            "item_id": _text("p", item),
            "request_id": _text("r", user * 1_000_000 + number_of_user // _IMPRESSIONS_PER_REQUEST),
            "category": _text("c", item // _ITEMS_PER_CATEGORY),
        },
    )
    later = np.minimum(time[clicked] + random.integers(3_600_000, size=len(clicked)), _DAY_MS - 1)
    _write_clicks(folder, DAY, _START_MS + later, user[clicked], item[clicked])
    before = random.integers(_DAY_MS, size=len(clicked))
    any_item = random.permutation(item[clicked])
    _write_clicks(folder, DAY_BEFORE, _START_MS - _DAY_MS + before, user[clicked], any_item)
    sold_at = np.minimum(later[converted] + random.integers(4 * 3_600_000, size=converted.sum()), _DAY_MS - 1)
    _write(
        folder / "conversions" / f"ds={DAY}",
        {
            "time": _START_MS + sold_at,
            "conversion_id": _text("v", np.arange(len(sold_at))),
            "user_id": _text("u", user[clicked][converted]),
            "item_id": _text("p", item[clicked][converted]),
        },
    )


def days_before(count: int) -> list[str]:
    """Returns the names of the `count` days before DAY, the first one first."""
    last = date.fromisoformat(DAY)
    return [(last - timedelta(days=back)).isoformat() for back in range(count, 0, -1)]


def write_days_before(folder: Path, count: int) -> None:
    """Writes DAY's lines of all logs once more for each of the `count` days before it, with other ids."""
    for log in ("impressions", "clicks", "conversions"):
        table = pq.read_table(folder / log / f"ds={DAY}", partitioning=None)
        for back, day in enumerate(reversed(days_before(count)), start=1):
            own = table.set_column(0, "time", pc.subtract(table["time"], back * _DAY_MS))
            own = own.set_column(1, own.column_names[1], pc.binary_join_element_wise(own.column(1), day, "-"))
            (folder / log / f"ds={day}").mkdir(parents=True, exist_ok=True)
            pq.write_table(own, folder / log / f"ds={day}" / "part-00000.parquet", compression="zstd")


def event_config(logs: Path) -> dict[str, Any]:
    """Returns the sections `logs` and `features` of a config that reads the logs below `logs`."""

    def log(name: str, **columns: Any) -> dict[str, Any]:
        shared = {"time": "time", "user_id": "user_id", "item_id": "item_id", "day_folders": "ds"}
        return {"path": str(logs / name), **shared, **columns}

    features = {"101": "user_id", "205": "item_id", "206": "category"}
    own = {"impression_id": "impression_id", "context_key": "request_id", "features": features}
    return {
        "logs": {
            "format": "events",
            "events": {
                "impressions": log("impressions", **own),
                "clicks": log("clicks", click_id="click_id", features={"206": "category"}),
                "conversions": log("conversions", conversion_id="conversion_id"),
                "attribution": {"click_window_s": 86_400, "conversion_window_s": 86_400},
                "immature": "keep",
                "history": [{"field": "109_14", "of": "clicks", "value": "206", "window_days": 1}],
                "crosses": [{"field": "508", "history": "109_14", "value": "206"}],
            },
        },
        "features": {
            "tables": {name: {"num_buckets": 100_000} for name in ("101", "205", "206", "109_14", "508")},
            "fields": [
                {"name": "101", "level": "context"},
                {"name": "109_14", "level": "context", "weighted": True, "multi": True},
                {"name": "205", "level": "impression"},
                {"name": "206", "level": "impression"},
                {"name": "508", "level": "impression", "weighted": True, "multi": True},
            ],
        },
    }


def _write_clicks(folder: Path, day: str, time: Ints, user: Ints, item: Ints) -> None:
    _write(
        folder / "clicks" / f"ds={day}",
        {
            "time": time,
            "click_id": _text(f"k{day}-", np.arange(len(time))),
            "user_id": _text("u", user),
            "item_id": _text("p", item),
            "category": _text("c", item // _ITEMS_PER_CATEGORY),
        },
    )


def _write(folder: Path, columns: dict[str, Any]) -> None:
    """Writes the rows, ordered by time as a log would be, into files of some size."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns).sort_by("time")
    for number, start in enumerate(range(0, max(1, table.num_rows), _ROWS_PER_FILE)):
        part = table.slice(start, _ROWS_PER_FILE)
        pq.write_table(part, folder / f"part-{number:05d}.parquet", compression="zstd")


def _text(prefix: str, numbers: Ints) -> pa.Array:
    """Returns [n] strings such as `u17`."""
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")
