"""Small event logs on disk, and a config that reads them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.manifest import DayCounts, Manifest
from tests.events.oracle import SECOND

Event = dict[str, Any]

DAY_S = 86_400
FIRST_DAY_S = 1_795_392_000  # 2026-11-23, 00:00 UTC
DAYS = ("2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26")


def at(day: int, hours: float) -> int:
    """Returns the microseconds of a time `hours` into a day of DAYS, counted from 0."""
    return (FIRST_DAY_S + day * DAY_S) * SECOND + round(hours * 3600 * SECOND)


def impression(identifier: str, time_us: int, user: Any = "u", item: Any = "i", **other: Any) -> Event:
    return {
        "impression_id": identifier,
        "time": time_us,
        "user_id": user,
        "item_id": item,
        "request": other.pop("request", f"r-{identifier}"),
        "age": other.pop("age", "7"),
        "category": other.pop("category", f"c-{item}"),
        **other,
    }


def event(time_us: int, user: Any = "u", item: Any = "i", **other: Any) -> Event:
    return {"time": time_us, "user_id": user, "item_id": item, "category": f"c-{item}", **other}


def days_of(manifest: Manifest) -> dict[str, DayCounts]:
    """Returns what the manifest of a dataset of event logs says of its days."""
    assert manifest.days is not None
    return manifest.days


def write_log(
    folder: Path, events: Sequence[Event], key: str | None = "ds", file: str = "part-0.parquet"
) -> None:
    """Writes the events into the folders of their days, or, without `key`, into one file."""
    by_day: dict[str, list[Event]] = {}
    for row in events:
        day = DAYS[(row["time"] // SECOND - FIRST_DAY_S) // DAY_S] if key else ""
        by_day.setdefault(f"{key}={day}" if key else "", []).append(row)
    for name, rows in by_day.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / name / file)


def write_json_lines(path: Path, rows: Sequence[Event | str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def config(tmp_path: Path, **events: Any) -> Config:
    """Returns a config of logs in `tmp_path/logs`; keywords replace keys of `logs.events`."""

    def log(name: str, **columns: Any) -> dict[str, Any]:
        shared = {"user_id": "user_id", "item_id": "item_id", "features": {"category": "category"}}
        files = {
            "path": str(tmp_path / "logs" / name),
            "day_folders": "ds",
            "time": "time",
            "time_unit": "us",
        }
        return {**files, **shared, **columns}

    impressions = {
        "impression_id": "impression_id",
        "context_key": "request",
        "features": {"age": "age", "item": "item_id", "category": "category"},
    }
    sections: dict[str, Any] = {
        "impressions": log("impressions", **impressions),
        "clicks": log("clicks"),
        "conversions": log("conversions"),
        "attribution": {"click_window_s": 3600, "conversion_window_s": 2 * DAY_S},
        "immature": "keep",
        "history": [{"field": "clicked", "of": "clicks", "value": "category", "window_days": 2}],
        "crosses": [{"field": "cross", "history": "clicked", "value": "category"}],
    }
    for name, value in events.items():
        old = sections.get(name)
        sections[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    tables = {name: {"num_buckets": 1000} for name in ("age", "item", "category", "clicked", "cross")}
    fields = [
        {"name": "age", "level": "context"},
        {"name": "clicked", "level": "context", "weighted": True, "multi": True},
        {"name": "item", "level": "impression"},
        {"name": "category", "level": "impression"},
        {"name": "cross", "level": "impression", "weighted": True},
    ]
    return Config.model_validate(
        {
            "paths": {name: str(tmp_path / name) for name in ("dataset", "model", "scores", "report")},
            "logs": {"format": "events", "max_reject_fraction": 1.0, "events": sections},
            "features": {"tables": tables, "fields": fields},
            "samples": {"num_files": 2},
        }
    )


def rows_of(config: Config, kind: str, day: str) -> list[Event]:
    """Returns the rows of a partition, sorted, without what depends on the number of files."""
    folder = Path(config.paths.dataset) / kind / f"ds={day}"
    tables = [pq.ParquetFile(path).read() for path in sorted(folder.glob("*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    return sorted(rows, key=lambda row: str(sorted(row.items(), key=str)))


def row_of(config: Config, field: str, value: str) -> int:
    """Returns the arena row of a value, by the hash that docs and manifest name."""
    value_hash = np.uint64(xxhash.xxh64(f"{field}={value}".encode(), seed=42).intdigest()).astype(np.int64)
    num_buckets = config.features.tables[field].num_buckets
    # Row 0 is that of rare values.
    return config.features.offsets[field] + 1 + int(value_hash) % (num_buckets - 1)
