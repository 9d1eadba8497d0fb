"""The walks of docs/your-logs.md on small made logs: labels, counts and features against plain loops."""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.samples.dataset import preprocess
from esmm_spark.samples.view import samples_view
from esmm_spark.tables.table_log import read_table
from tests.documented import walked_config
from tests.events.oracle import SECOND, labels
from tests.events.small_logs import days_of, row_of, rows_of
from tests.scripts import script_named
from tests.tables.small_tables import impressions_of

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]

Line = dict[str, Any]
DAY = "2026-11-21"
FOLDER = "20261121"
CLICK_WINDOW_S, CONVERSION_WINDOW_S, REFUND_WINDOW_S = 3600, 86_400, 86_400
# 'rare', missing and scaled come before the buckets of a number.
FIRST_BUCKET = 3


def json_lines(folder: Path, day: str = "*") -> Iterator[Line]:
    for path in sorted(folder.glob(f"dt={day}/*.json")):
        yield from map(json.loads, path.read_text().splitlines())


def micros(text: str, zone: str) -> int:
    at = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    return (at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def build(spark: SparkSession, config: Config) -> tuple[list[Line], dict[str, SourceCounts]]:
    """Builds DAY; returns its impressions as people see them, and what became of the lines of each log."""
    assert config.logs.events is not None
    build_days(spark, config, parse_day(DAY, None, config.logs.events.time_zone))
    manifest = read_manifest(config.paths.dataset)
    counts = days_of(manifest)[f"ds={DAY}"]
    for source in counts.sources:
        noted, rejected = sum(source.notes.values()), sum(source.rejects.values())
        assert source.lines_read == source.lines_accepted + noted + rejected
    examples = spark.read.parquet(f"{config.paths.dataset}/examples/ds={DAY}/*.parquet")
    view = samples_view(examples, manifest.feature_spec, manifest.brought)
    sources = {source.name.rpartition(".")[2]: source for source in counts.sources}
    return [row.asDict() for row in view.collect()], sources


def require_labels(
    config: Config, found: Sequence[Line], impressions: list[Line], events: tuple[list[Line], list[Line]]
) -> None:
    """Requires the labels of DAY's impressions to be those of the oracle's loops."""
    expected = labels(impressions, *events, CLICK_WINDOW_S, CONVERSION_WINDOW_S, "last")
    of_day = {
        (line["impression_id"], line["time_us"]): expected.get(
            (line["impression_id"], line["time_us"]), (0, 0, None, None)
        )
        for line in impressions
        if line["day"] == DAY
    }
    rows = rows_of(config, "labels", DAY)
    names = ("num_clicks", "num_conversions", "click_time_us", "conversion_time_us")
    assert {
        (row["impression_id"], row["time_us"]): tuple(row[name] for name in names) for row in rows
    } == of_day
    by_id = {identifier: counts for (identifier, _), counts in of_day.items()}
    assert {row["impression_id"] for row in found} == {*by_id}
    for row in found:
        clicks, conversions, *_ = by_id[row["impression_id"]]
        assert (row["click"], row["conversion"]) == (int(clicks > 0), int(conversions > 0))
    assert {row["conversion"] for row in found} == {0, 1}


def require_features(
    config: Config, found: Sequence[Line], impressions: Sequence[Line], fields: Sequence[str]
) -> None:
    shown = {line["impression_id"]: line for line in impressions}
    for row in found:
        line = shown[row["impression_id"]]
        for field in fields:
            assert row[field] == [row_of(config, field, line[field]) - config.features.offsets[field]]
        place = int(np.searchsorted([20, 40, 60, 80], line["price"], side="right"))
        assert row["price"] == [FIRST_BUCKET + place]


def test_a_flat_table(spark: SparkSession, tmp_path: Path) -> None:
    script_named("example_logs").write_table(tmp_path / "shop/log", 20, 7)
    config = load_config(str(walked_config("A flat table", tmp_path)))
    manifest = preprocess(spark, config, read_table)
    with (tmp_path / "shop/log/impressions.csv").open(newline="") as file:
        lines = {f"{line['request']}-{line['position']}": line for line in csv.DictReader(file)}
    found = {}
    for split in ("train", "validation", "test"):
        for row in impressions_of(spark, config, manifest, split):
            assert (split == "test") == (lines[row["impression_id"]]["shown_at"] >= "2026-11-23")
            found[row["impression_id"]] = row
    assert manifest.sources[0].lines_read == len(lines)
    assert {*found} == {*lines}
    zone = "Europe/Berlin"
    for identifier, line in lines.items():
        ordered = line["ordered_at"] and micros(line["ordered_at"], zone) - micros(line["shown_at"], zone)
        is_order = bool(ordered) and 0 <= int(ordered) <= CONVERSION_WINDOW_S * SECOND
        row = found[identifier]
        assert (row["click"], row["conversion"]) == (int(line["is_click"]), int(is_order))
        taste = (
            row_of(config, "taste", f"{line['user']}-{line['category']}") - config.features.offsets["taste"]
        )
        assert row["taste"] == [taste]
    assert {row["conversion"] for row in found.values()} == {0, 1}


def test_requests_with_order_lines_and_refunds(spark: SparkSession, tmp_path: Path) -> None:
    folder, zone = tmp_path / "requests/log", "Asia/Shanghai"
    script_named("example_logs").write_requests(folder, 80, 14)
    config = load_config(str(walked_config("Requests with order lines and refunds", tmp_path)))
    impressions, clicks, orders = [], [], []
    for request in json_lines(folder / "requests"):
        for place, each in enumerate(request["shown"]):
            identifier, ids = (
                f"{request['request']}-{place}",
                {"user_id": request["user"]["id"], "item_id": each["item"]},
            )
            of_item = {"item": each["item"], "category": each["category"], "price": each["price"]}
            at = {"time_us": micros(request["at"], zone), "day": request["at"][:10]}
            of_user = {"user": request["user"]["id"], "city": request["user"]["city"], "position": str(place)}
            impressions.append({"impression_id": identifier, **ids, **at, **of_item, **of_user})
            if each["clicked_at"] is not None:
                clicks.append(
                    {"impression_id": identifier, **ids, "time_us": micros(each["clicked_at"], zone)}
                )
    refunds = [
        (f"{line['order']['id']}-{line['order']['line']}", micros(line["refunded_at"], zone))
        for line in json_lines(folder / "refunds")
    ]
    for order in json_lines(folder / "orders"):
        for place, each in enumerate(order["lines"]):
            if order["status"] == "test" or order["paid_at"] is None:
                continue
            at_us, identifier = micros(order["paid_at"], zone), f"{order['id']}-{place}"
            end_us = at_us + REFUND_WINDOW_S * SECOND
            if not any(name == identifier and at_us <= back <= end_us for name, back in refunds):
                orders.append({"user_id": order["user"], "item_id": each["item"], "time_us": at_us})

    found, sources = build(spark, config)
    require_labels(config, found, impressions, (clicks, orders))
    require_features(config, found, impressions, ("user", "city", "item", "category", "position"))
    # Lines of the day's folder, and what happened on the day and lies in another.
    shown = [each for line in json_lines(folder / "requests", FOLDER) for each in line["shown"]]
    early = [
        each
        for line in json_lines(folder / "requests")
        for each in line["shown"]
        if line["at"][:10] != DAY and (each["clicked_at"] or "")[:10] == DAY
    ]
    assert sources["impressions"].lines_read == len(shown)
    assert sources["clicks"].lines_read == len(shown) + len(early)
    assert sources["clicks"].notes["filtered"] == sum(each["clicked_at"] is None for each in shown)
    bought = [line for line in json_lines(folder / "orders", FOLDER) for _ in line["lines"]]
    assert sources["conversions"].lines_read == len(bought)
    assert sources["conversions"].notes["filtered"] == sum(line["status"] == "test" for line in bought)
    unpaid = [line for line in bought if line["paid_at"] is None and line["status"] != "test"]
    assert sources["conversions"].notes["without_time"] == len(unpaid) > 0


def test_an_export_of_events(spark: SparkSession, tmp_path: Path) -> None:
    folder, zone = tmp_path / "ga4/log", ZoneInfo("America/New_York")
    script_named("example_logs").write_export(folder, 40, 7)
    config = load_config(str(walked_config("An export of events, as GA4 has it", tmp_path)))
    names = {"view_item_list": [], "select_item": [], "purchase": []}  # type: dict[str, list[Line]]
    for event in json_lines(folder):
        parameters = {each["key"]: each["value"] for each in event["event_params"]}
        for place, item in enumerate(event.get("items", ())):
            at_us, user = int(event["event_timestamp"]), event["user_pseudo_id"]
            names[event["event_name"]].append(
                {
                    "user_id": user,
                    "item_id": item["item_id"],
                    "time_us": at_us,
                    "day": f"{datetime.fromtimestamp(at_us / SECOND, zone):%Y-%m-%d}",
                    "user": user,
                    "region": event["geo"]["region"],
                    "source": parameters["source"]["string_value"],
                    "item": item["item_id"],
                    "category": item["item_category"],
                    "price": item["price"],
                    "place": place,
                }
            )
    impressions = [
        {
            **line,
            "impression_id": f"{line['user']}-{line['time_us']}-{line['place']}",
            "position": str(line["place"]),
        }
        for line in names["view_item_list"]
    ]
    found, sources = build(spark, config)
    require_labels(config, found, impressions, (names["select_item"], names["purchase"]))
    require_features(config, found, impressions, ("user", "region", "source", "item", "category", "position"))
    # A line per item, and a line of each event without any.
    items = {
        name: [
            len(line.get("items", ())) for line in json_lines(folder, FOLDER) if line["event_name"] == name
        ]
        for name in (*names, "page_view")
    }
    for log, name in (
        ("impressions", "view_item_list"),
        ("clicks", "select_item"),
        ("conversions", "purchase"),
    ):
        others = sum(sum(of_name) for other, of_name in items.items() if other != name)
        notes = {key: sources[log].notes.get(key) for key in ("filtered", "without_items")}
        assert notes == {"filtered": others, "without_items": len(items["page_view"])}
