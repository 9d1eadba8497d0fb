"""What the written config does with lines on which the profile found something odd: it runs as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.profile.counts.opening import guess_table
from esmm_spark.profile.counts.roles import roles_of_config
from esmm_spark.profile.profiling import profile_table
from esmm_spark.profile.result import Profile
from esmm_spark.samples.dataset import preprocess
from esmm_spark.tables.table_log import read_table
from tests.documented import documented_config

pytestmark = pytest.mark.spark

DAY = 86_400
ORDERED = "2026-11-23 10:00:00"


def accounted(spark: SparkSession, folder: Path) -> SourceCounts:
    """Returns what became of the lines of the table, by the config that the profile wrote."""
    (source,) = preprocess(spark, load_config(str(folder / "run/profile/config.yaml")), read_table).sources
    return source


def profiled(spark: SparkSession, folder: Path, content: dict[str, Any]) -> Profile:
    """Returns the profile of a table that is read as a config says, and writes it below `folder`."""
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    config = load_config(str(path))
    assert config.logs.table is not None
    roles = roles_of_config(config.logs.table, config.tasks)
    return profile_table(spark, config.logs.table, roles, str(folder / "run/profile"))


def test_empty_text_is_no_click_and_no_order_as_null_is(spark: SparkSession, tmp_path: Path) -> None:
    nothing = [None, ""]
    lines = [
        {
            "user_id": f"u{number % 20}",
            "city": f"c{number % 3}",
            "click": "1" if number % 4 < 2 else nothing[number % 2],
            "order_time": {0: " ", 1: ORDERED, 5: ORDERED}.get(number % 8, nothing[number % 2]),
        }
        for number in range(400)
    ]
    path = tmp_path / "log.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = profile_table(spark, guess_table(str(path)), None, str(tmp_path / "run/profile"))
    assert found.facts.labels == {"click": (200, 400), "conversion": (100, 200)}
    source = accounted(spark, tmp_path)
    assert (source.lines_accepted, source.rejects, source.notes) == (400, {}, {})


def test_the_documented_table_of_conversion_times_is_profiled_and_runs(
    spark: SparkSession, tmp_path: Path
) -> None:
    names = ["timestamp", "uid", "campaign", "conversion", "conversion_timestamp", "conversion_id"]
    rows = ["\t".join([*names, "click", "cost", "cat1"])]
    for number in range(300):
        seconds, click = number * DAY // 12, number % 2
        converted = click and number % 3 == 0
        time = seconds + 60 if converted else -1
        of_conversion = f"{int(converted)}\t{time}\t{number if converted else -1}"
        shown = f"{seconds}\tu{number % 30}\t{number % 7}"
        rows.append(f"{shown}\t{of_conversion}\t{click}\t{number / 1000}\t{number % 5}")
    content = yaml.safe_load(
        documented_config("tables.md", "Times of conversions: Criteo's attribution table")
    )
    content["logs"]["table"]["path"] = str(tmp_path / "criteo.tsv")
    (tmp_path / "criteo.tsv").write_text("\n".join(rows) + "\n")
    content["paths"] = {name: str(tmp_path / name) for name in ("dataset", "model", "scores", "report")}
    features = [name for name in content["logs"]["table"]["features"] if name != "cost"]
    content["features"] = {
        "tables": {name: {"num_buckets": 100} for name in features},
        "fields": [{"name": name, "level": "impression"} for name in features],
    }
    found = profiled(spark, tmp_path, content)
    assert {guess.column.name for guess in found.chosen} == {"uid", "campaign", "cost", "cat1"}
    source = accounted(spark, tmp_path)
    assert (source.rejects, source.lines_accepted) == ({}, 300)
