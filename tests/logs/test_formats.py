"""A third format of logs: what CONTRIBUTING.md says of it, tried."""

from pathlib import Path

import pytest
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.sample_config import SplitLogs
from esmm_spark.contracts.schemas.line_format import VALUE_SEPARATOR, WEIGHT_SEPARATOR
from esmm_spark.logs import formats
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.samples.dataset import preprocess
from esmm_spark.samples.view import samples_view
from tests.samples.raw_lines import config_for

USERS = "user,age\nu1,30\nu2,40\n"
SHOWN = "id,user,item,click,buy\n1,u1,7,1,0\n2,u1,8,0,0\n3,u2,7,1,1\n4,u3,7,0,0\n"


def read_tables(spark: SparkSession, logs: SplitLogs) -> CanonicalLines:
    """Reads two comma-separated tables: users with their age, and what was shown to them."""
    users = spark.read.option("header", True).csv(logs.common_features)
    shown = spark.read.option("header", True).csv(logs.skeleton)

    def token(field: str, column: str) -> Column:
        return F.concat(F.lit(f"{field}{VALUE_SEPARATOR}"), column, F.lit(f"{WEIGHT_SEPARATOR}1.0"))

    context = F.concat_ws(",", "user", F.lit("1"), token("101", "age"))
    impression = F.concat_ws(",", "id", "click", "buy", "user", F.lit("1"), token("205", "item"))
    return CanonicalLines(
        contexts=users.select(context.alias("line"), F.col("user").alias("key")),
        impressions=shown.select(impression.alias("line"), F.col("user").alias("key")),
    )


@pytest.mark.spark
def test_a_format_of_two_tables_becomes_examples_with_all_checks(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(formats.FORMATS, "tables", read_tables)
    (tmp_path / "users.csv").write_text(USERS)
    (tmp_path / "shown.csv").write_text(SHOWN)
    split = {"skeleton": str(tmp_path / "shown.csv"), "common_features": str(tmp_path / "users.csv")}
    logs = {"format": "tables", "splits": {"test": split}, "max_reject_fraction": 1}
    manifest = preprocess(spark, config_for(tmp_path, {}, logs=logs))
    assert manifest.sources[1].rejects == {"unknown_context": 1}
    examples = spark.read.parquet(str(tmp_path / "out" / "dataset" / "examples" / "split=test"))
    found = samples_view(examples, manifest.feature_spec).select("impression_id", "group_key", "click")
    assert sorted(map(tuple, found.collect())) == [("1", "u1", 1), ("2", "u1", 0), ("3", "u2", 1)]


def test_a_format_without_a_reader_is_named_with_those_that_have_one() -> None:
    with pytest.raises(ConfigError, match=r"logs\.format alicpp has no reader of splits: it may be aliccp"):
        formats.reader_of("alicpp")
