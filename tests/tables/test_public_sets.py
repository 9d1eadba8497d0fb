"""Made files of the shape of public data sets become datasets by config alone; so do the examples of docs."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.fields.field_spec import FIRST_NUMBER_BUCKET, SCALED_NUMBER
from esmm_spark.contracts.manifest import Manifest, SourceCounts
from esmm_spark.samples.dataset import preprocess
from esmm_spark.tables.table_log import read_table
from tests.documented import documented_config
from tests.events.small_logs import row_of
from tests.tables.small_tables import impressions_of

pytestmark = pytest.mark.spark

DAY = 86_400
ALI_CCP = "101 121 122 124 125 126 127 128 129 205 206 207 216 508 509 702 853 301"


def documented(heading: str) -> dict[str, Any]:
    """Returns the example below a heading of docs/tables.md."""
    content: dict[str, Any] = yaml.safe_load(documented_config("tables.md", heading))
    return content


def write(path: Path, rows: Sequence[dict[str, Any]], delimiter: str = ",") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def run(
    spark: SparkSession, tmp_path: Path, content: dict[str, Any], context: Sequence[str]
) -> tuple[Config, Manifest, SourceCounts]:
    """Preprocesses; all features are fields, those of `context` of a context."""
    names = [name for name in content["logs"]["table"]["features"] if name != "cost"]
    levels = {name: "context" if name in context else "impression" for name in names}
    multi = {"multi": True}
    sections: dict[str, Any] = {
        "paths": {name: str(tmp_path / name) for name in ("dataset", "model", "scores", "report")},
        "features": {
            "tables": {name: {"num_buckets": 100} for name in names},
            "fields": [
                {"name": name, "level": level, **(multi if name == "tags" else {})}
                for name, level in levels.items()
            ],
        },
        **content,
        "samples": {"validation_fraction": 0, "num_files": 1, **content.get("samples", {})},
    }
    config = Config.model_validate(sections)
    manifest = preprocess(spark, config, read_table)
    (source,) = manifest.sources
    written = sum(counts.impressions for counts in manifest.partitions.values())
    assert written == source.lines_accepted
    assert source.lines_read == written + sum(source.rejects.values()) + _noted(source)
    return config, manifest, source


def _noted(source: SourceCounts) -> int:
    return sum(count for note, count in source.notes.items() if not note.startswith("differing_"))


def test_ali_ccp_as_torch_rechub_ships_it(spark: SparkSession, tmp_path: Path) -> None:
    names = [*ALI_CCP.split()]
    rows = [
        {
            "click": row % 2,
            "purchase": row % 4 // 3,
            **{name: row % 3 for name in names},
            # The user's own do not differ but once.
            "121": row % 3 if row else 7,
            "D109_14": 0.25,
        }
        for row in range(24)
    ]
    content = documented("A flat CSV: Ali-CCP as torch-rechub ships it")
    table = content["logs"]["table"]
    table["path"] = write(tmp_path / "raw/ali_ccp_train.csv", rows)
    for split in ("validation", "test"):
        table["splits"]["paths"][split] = write(tmp_path / f"raw/ali_ccp_{split}.csv", rows[1:7])
    config, manifest, source = run(spark, tmp_path, content, ["101", "121"])
    counts = {name: (part.groups, part.impressions) for name, part in manifest.partitions.items()}
    assert counts == {"split=train": (3, 24), "split=validation": (3, 6), "split=test": (3, 6)}
    assert source.notes == {"differing_121": 1}
    found = impressions_of(spark, config, manifest, "test")
    assert [row["impression_id"] for row in found] == [f"ali_ccp_test.csv:{row}" for row in range(1, 7)]
    assert [row["click"] for row in found] == [row["click"] for row in rows[1:7]]


def test_criteo_attribution(spark: SparkSession, tmp_path: Path) -> None:
    def row(day: float, conversion_day: float | None, click: int) -> dict[str, Any]:
        conversion = -1 if conversion_day is None else int(conversion_day * DAY)
        columns = {"timestamp": int(day * DAY), "uid": int(day) % 2, "campaign": 7}
        last = {"conversion_id": -1, "click": click, "cost": "0.0001", "cat1": 3}
        return {**columns, "conversion": int(conversion > 0), "conversion_timestamp": conversion, **last}

    rows = [
        row(1, 2, 1),
        row(2, None, 1),  # 30 days are not over by day 27
        row(2, 3, 0),  # of another click
        row(3, None, 0),
        row(26, 26.5, 1),
        row(26.5, 29, 1),  # not known by day 27
    ]
    content = documented("Times of conversions: Criteo's attribution table")
    content["logs"]["table"]["path"] = write(tmp_path / "raw/criteo_attribution.tsv", rows, "\t")
    config, manifest, source = run(spark, tmp_path, content, ["user"])
    assert source.notes == {"filtered": 1}
    train = impressions_of(spark, config, manifest, "train")
    assert [(row["click"], row["conversion"]) for row in train] == [(1, 1), (1, None), (0, 0)]
    test = impressions_of(spark, config, manifest, "test")
    assert [row["conversion"] for row in test] == [1, None]
    assert [row["cost"] for row in test] == [0.0001, 0.0001]


def test_a_nested_request_log(spark: SparkSession, tmp_path: Path) -> None:
    content = documented("A nested request log")
    user, empty = {"id": 7, "tags": ["a", "b"]}, {"request": "r0", "user": {"id": 8, "tags": []}, "shown": []}
    for request, day in (("r1", "20261123"), ("r3", "20261124")):
        shown = {"request": request, "user": user, "shown": [{"item": 1, "click": True}, {"item": 2}]}
        path = tmp_path / f"raw/dt={day}/part.json"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in (shown, empty)))
    content["logs"]["table"]["path"] = str(tmp_path / "raw")
    config, manifest, source = run(spark, tmp_path, content, ["user", "tags"])
    assert (source.lines_read, source.notes) == (6, {"without_items": 2})
    found = impressions_of(spark, config, manifest, "test")
    assert [(row["impression_id"], row["click"]) for row in found] == [("r3-0", 1), ("r3-1", 0)]
    assert [len(row["tags"]) for row in found] == [2, 2]


def test_kuairand(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        {
            "user_id": row % 2,
            "video_id": row,
            "date": 20220408 + row,
            "hourmin": 30,
            # Half past midnight there, half past four in the afternoon of the day before in UTC.
            "time_ms": 1649349000000 + row * DAY * 1000,
            "is_click": row % 2,
            "long_view": row // 3,
            "duration_ms": 1000 + row,
            "tab": 1,
        }
        for row in range(4)
    ]
    table = {
        "path": write(tmp_path / "raw/log_standard_4_08_to_4_21_pure.csv", rows),
        "file_format": "csv",
        "context_key": "user_id",
        "time": "time_ms",
        "time_zone": "Asia/Shanghai",
        "labels": {"click": "is_click", "long_view": "long_view"},
        "features": {"user": "user_id", "video": "video_id", "tab": "tab"},
        "splits": {"test_from": "2022-04-11"},
    }
    content = {
        "logs": {"format": "table", "table": table},
        "tasks": {"click": {}, "long_view": {"given": "click"}},
    }
    config, manifest, _ = run(spark, tmp_path, content, ["user"])
    assert {name: part.impressions for name, part in manifest.partitions.items()} == {
        "split=train": 3,
        "split=test": 1,
    }
    (found,) = impressions_of(spark, config, manifest, "test")
    assert (found["click"], found["long_view"]) == (1, 1)
    assert found["impression_id"] == "log_standard_4_08_to_4_21_pure.csv:4"


def test_aliexpress(spark: SparkSession, tmp_path: Path) -> None:
    categorical = {f"categorical_{number}": 3.0 for number in range(1, 4)}
    rows = [
        {
            **{"search_id": row // 3, **categorical},
            **{"numerical_1": 0.5 + row, "numerical_2": round(7.25 * (row * 5 % 12), 2)},
            **{"click": row % 2, "conversion": 0},
        }
        for row in range(12)
    ]
    numerical = [
        {"name": "numerical_1", "level": "impression", "kind": "numeric", "quantile": 4},
        {"name": "numerical_2", "level": "impression", "kind": "numeric", "transform": "log1p"},
    ]
    table = {
        "path": write(tmp_path / "raw/NL/train.csv", rows),
        "file_format": "csv",
        "context_key": "search_id",
        "labels": {"click": "click", "conversion": "conversion"},
        "features": {name: name for name in (*categorical, "numerical_1", "numerical_2")},
        "splits": {"paths": {"test": write(tmp_path / "raw/NL/test.csv", rows)}},
    }
    fields = [{"name": name, "level": "impression"} for name in categorical]
    content = {
        "logs": {"format": "table", "table": table},
        "features": {
            "tables": {name: {"num_buckets": 100} for name in categorical},
            "fields": [*fields, *numerical],
        },
    }
    config, manifest, _ = run(spark, tmp_path, content, [])
    counts = {name: (part.groups, part.impressions) for name, part in manifest.partitions.items()}
    assert counts == {"split=train": (4, 12), "split=test": (4, 12)}
    numbers = np.array([(row["numerical_1"], row["numerical_2"]) for row in rows], dtype=float)
    boundaries = np.quantile(numbers[:, 0], [0.25, 0.5, 0.75], method="inverted_cdf")
    assert manifest.fitted["numerical_1"].boundaries == boundaries.tolist()
    np.testing.assert_allclose(manifest.fitted["numerical_2"].mean, np.log1p(numbers[:, 1]).mean())
    for found in impressions_of(spark, config, manifest, "test"):
        number = numbers[int(found["impression_id"].split(":")[1]) - 1, 0]
        place = int(np.searchsorted(boundaries, number, side="right"))
        # Bucket 0 is that of rare values.
        assert found["numerical_1"] == [1 + FIRST_NUMBER_BUCKET + place]
        assert found["numerical_2"] == [1 + SCALED_NUMBER]


def test_tenrec(spark: SparkSession, tmp_path: Path) -> None:
    """The video log: four tasks below a click, ten columns of history with 0 where there is none, no time."""
    rows = [
        {
            "user_id": row % 3,
            "item_id": 100 + row,
            "click": int(row % 2),
            "follow": int(row == 5),
            "like": int(row % 4 == 1),
            "share": 0,
            "video_category": row % 2,
            "watching_times": row,
            "gender": 1 + row % 3 % 2,
            "age": row % 3,
            **{f"hist_{place}": 200 + row % 3 + place if place <= row % 3 else 0 for place in range(1, 11)},
        }
        for row in range(30)
    ]
    history = ", ".join(f"hist_{place}" for place in range(1, 11))
    table = {
        "path": write(tmp_path / "raw/ctr_data_1M.csv", rows),
        "file_format": "csv",
        "context_key": "user_id",
        "labels": {name: name for name in ("click", "like", "follow", "share")},
        "features": {
            "user": "user_id",
            "gender": "gender",
            "age": "age",
            "seen": {"expr": f"filter(array({history}), item -> item <> '0')"},
            "video": "item_id",
            "category": "video_category",
        },
        "splits": {"column": {"expr": "if(watching_times < 24, 'train', 'test')"}},
    }
    context = ["user", "gender", "age", "seen"]
    fields = [
        {"name": name, "level": "context" if name in context else "impression", "multi": name == "seen"}
        for name in table["features"]
    ]
    content = {
        "logs": {"format": "table", "table": table},
        "tasks": {"click": {}, **{name: {"given": "click"} for name in ("like", "follow", "share")}},
        "features": {"tables": {field["name"]: {"num_buckets": 1000} for field in fields}, "fields": fields},
    }
    config, manifest, source = run(spark, tmp_path, content, context)
    counts = {name: (part.groups, part.impressions) for name, part in manifest.partitions.items()}
    assert counts == {"split=train": (3, 24), "split=test": (3, 6)}
    assert (source.rejects, source.notes) == ({}, {})
    found = [row for split in ("train", "test") for row in impressions_of(spark, config, manifest, split)]
    for line, row in zip(
        rows, sorted(found, key=lambda row: int(row["impression_id"].split(":")[1])), strict=True
    ):
        assert {task: row[task] for task in config.tasks.names} == {
            task: line[task] for task in config.tasks.names
        }
        for field in ("user", "video"):
            column = {"user": "user_id", "video": "item_id"}[field]
            bucket = row_of(config, field, str(line[column])) - config.features.offsets[field]
            assert row[field] == [bucket]
        seen = [line[f"hist_{place}"] for place in range(1, 11) if line[f"hist_{place}"]]
        buckets = [row_of(config, "seen", str(item)) - config.features.offsets["seen"] for item in seen]
        assert sorted(row["seen"]) == sorted(buckets)
