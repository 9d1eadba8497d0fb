"""All features of a day together, from frames in memory."""

import math
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.event_config import EventLogs
from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.events.day_lines import canonical_lines
from esmm_spark.events.features.features import Featured, add_features
from tests.events.small_logs import at, config

pytestmark = pytest.mark.spark

IMPRESSIONS = (
    "impression_id string, user_id string, item_id string, context_key string, time_us bigint, "
    "`@age` string, `@item` string, `@tags` array<string>"
)
CLICKS = "user_id string, item_id string, time_us bigint"
CATALOG = "item_id string, valid_from_us bigint, valid_to_us bigint, `@brand` string"


def with_brands(tmp_path: Path) -> Config:
    """Returns a config with a brand from a catalog, counted for contexts (`past`) and impressions (`now`)."""
    base = config(tmp_path).model_dump(mode="json")
    events = base["logs"]["events"]
    events["impressions"]["features"] = {"age": "age", "item": "item_id", "tags": "tags"}
    events["catalogs"] = [
        {
            "path": "items",
            "key": "item",
            "key_column": "item_id",
            "valid_from": "from",
            "features": {"brand": "brand"},
        }
    ]
    for log in ("clicks", "conversions"):
        events[log]["features"] = {}
    events["history"] = [
        {"field": "past", "value": "brand"},
        {"field": "now", "value": "brand", "lag_s": 3600},
    ]
    events["crosses"] = [
        {"field": "past_x_brand", "history": "past", "value": "brand"},
        {"field": "now_x_brand", "history": "now", "value": "brand"},
    ]
    levels = {
        "context": ["age", "past"],
        "impression": ["item", "tags", "brand", "now", "past_x_brand", "now_x_brand"],
    }
    weighted = {"past", "now", "past_x_brand", "now_x_brand"}
    base["features"] = {
        "tables": {name: {"num_buckets": 10} for names in levels.values() for name in names},
        "fields": [
            {
                "name": name,
                "level": level,
                "weighted": name in weighted,
                "multi": name in {"tags", "past", "now"},
            }
            for level, names in levels.items()
            for name in names
        ],
    }
    return Config.model_validate(base)


def featured(spark: SparkSession, small: Config) -> Featured:
    impressions = [
        # One context: its features are as of its first impression, a, at 2:00.
        ("b", "u", "j", "r", at(1, 3), "8", "j", None),
        ("a", "u", "i", "r", at(1, 2), "7", "i", ["x", "y"]),
        ("c", "v", "i", "s", at(1, 2), None, "i", ["x"]),
    ]
    # The brand of i is p until 1:00, then q.
    catalog = [("i", at(0, 0), None, "p"), ("i", at(1, 1), None, "q"), ("j", at(0, 0), None, "p")]
    clicks = [
        ("u", "i", at(1, 0.5)),  # p
        ("u", "i", at(1, 1)),  # q, an hour before a
        ("u", "j", at(1, 2)),  # p, at the time of a: not before it
        ("u", "nowhere", at(1, 1)),
        ("v", "i", at(1, 2.5)),
    ]
    events = small.logs.events
    assert isinstance(events, EventLogs)
    catalogs = [(events.catalogs[0], spark.createDataFrame(catalog, CATALOG))]
    of_clicks = spark.createDataFrame(clicks, CLICKS)
    frame = spark.createDataFrame(impressions, IMPRESSIONS)
    return add_features(frame, catalogs, {"clicks": of_clicks}, events, small.features)


def by_key(frame: DataFrame, key: str) -> dict[str, dict[str, Any]]:
    return {row[key]: row.asDict() for row in frame.collect()}


def test_each_level_sees_what_was_before_it_and_the_catalog_of_that_time(
    spark: SparkSession, tmp_path: Path
) -> None:
    found = featured(spark, with_brands(tmp_path))
    once = math.log(2)
    contexts = by_key(found.contexts, "context_key")
    assert (contexts["r"]["@age"], contexts["r"]["@past"]) == ("7", {"p": once, "q": once})
    assert contexts["s"]["@past"] is None
    impressions = by_key(found.impressions, "impression_id")
    assert {name: row["@brand"] for name, row in impressions.items()} == {"a": "q", "b": "p", "c": "q"}
    # An hour of lag: a at 2:00 doesn't see the click at 1:00; b at 3:00 doesn't see that at 2:00.
    assert impressions["a"]["@now"] == {"p": once}
    assert impressions["b"]["@now"] == {"p": once, "q": once}
    assert impressions["a"]["@past_x_brand"] == {"q": once}
    assert impressions["a"]["@now_x_brand"] is None
    assert impressions["b"]["@now_x_brand"] == {"p": once}
    assert impressions["c"]["@past_x_brand"] is None


def test_features_become_the_lines_that_the_grouping_kernel_reads(
    spark: SparkSession, tmp_path: Path
) -> None:
    small = with_brands(tmp_path)
    found = featured(spark, small)
    labelled = found.impressions.selectExpr("*", "1 as click", "0 as conversion")
    lines = canonical_lines(Featured(found.contexts, labelled), small.features, small.brought, {})
    for frame in (lines.contexts, lines.impressions):
        plan = frame._jdf.queryExecution().executedPlan().toString()
        assert "NestedLoop" not in plan
        assert "Cartesian" not in plan
    contexts = {row.key: row.line for row in lines.contexts.collect()}
    weight = "0.6931472"
    assert contexts["r"] == "r,3," + "\x01".join(
        ["age\x027\x031.0", f"past\x02p\x03{weight}", f"past\x02q\x03{weight}"]
    )
    assert contexts["s"] == "s,0,"
    impressions = {row.line.split(",")[0]: row.line for row in lines.impressions.collect()}
    assert impressions["a"] == "a,1,0,r,6," + "\x01".join(
        [
            "item\x02i\x031.0",
            "tags\x02x\x031.0",
            "tags\x02y\x031.0",
            "brand\x02q\x031.0",
            f"now\x02p\x03{weight}",
            f"past_x_brand\x02q\x03{weight}",
        ]
    )
    # An attribute of a catalog is carried behind the key; one with several values can't be.
    carrying = ImpressionColumns(small.tasks, {"brand": "string", "item": "float"})
    carried = canonical_lines(Featured(found.contexts, labelled), small.features, carrying, {})
    starts = {row.line.split(",")[0]: row.line.split(",")[:7] for row in carried.impressions.collect()}
    assert starts["a"] == ["a", "1", "0", "r", "q", "", "6"]
    several = carrying._replace(carry={"tags": "string"})
    with pytest.raises(InputError, match=r"samples.carry names tags, of which .* several values \(array\)"):
        canonical_lines(Featured(found.contexts, labelled), small.features, several, {})
