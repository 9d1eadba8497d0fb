"""Passes over a table are steps that people see, whatever the table needs."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from esmm_spark.samples.dataset import preprocess
from esmm_spark.tables.table_log import read_table
from tests.tables.small_tables import table_config, write_table

pytestmark = pytest.mark.spark


@pytest.mark.usefixtures("only_named_jobs")
def test_every_spark_job_of_a_table_without_ids_is_of_a_step(spark: SparkSession, tmp_path: Path) -> None:
    lines = [{"user": f"u{number}", "age": 30, "item": number, "click": 0, "order": 0} for number in range(4)]
    lines.append({**lines[0], "click": 7})
    path = write_table(tmp_path / "log.json", lines)
    manifest = preprocess(spark, table_config(tmp_path, path, impression_id=None), read_table)
    (source,) = manifest.sources
    assert (source.lines_accepted, source.rejects) == (4, {"bad_label": 1})
