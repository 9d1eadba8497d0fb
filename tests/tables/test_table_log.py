"""A single table to examples: ids, labels, groups, rejects; every line accounted for."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.samples.dataset import preprocess
from esmm_spark.tables.table_log import read_table
from tests.tables.small_tables import Line, impressions_of, table_config, write_table

pytestmark = pytest.mark.spark

LINES: list[Line | str] = [
    {"id": "1", "user": "u1", "age": "30", "item": "7", "click": "1", "order": "0"},
    {"id": "2", "user": "u1", "age": "30", "item": "8", "click": "0", "order": "0"},
    {"id": "3", "user": "u2", "age": None, "item": "7", "click": "1", "order": "1"},
]


def run(spark: SparkSession, config: Config) -> Manifest:
    return preprocess(spark, config, read_table)


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_a_table_of_each_format_becomes_groups_of_its_context_key(
    spark: SparkSession, tmp_path: Path, suffix: str
) -> None:
    config = table_config(tmp_path, write_table(tmp_path / f"log.{suffix}", LINES))
    manifest = run(spark, config)
    found = impressions_of(spark, config, manifest, "train")
    assert [(row["impression_id"], row["group_key"], row["click"], row["conversion"]) for row in found] == [
        ("1", "u1", 1, 0),
        ("2", "u1", 0, 0),
        ("3", "u2", 1, 1),
    ]
    assert found[0]["age"] == found[1]["age"] != []
    assert found[2]["age"] == []
    assert found[0]["item"] == found[2]["item"] != found[1]["item"]
    assert manifest.partitions["split=train"].groups == 2
    (source,) = manifest.sources
    assert (source.lines_read, source.lines_accepted, source.rejects) == (3, 3, {})
