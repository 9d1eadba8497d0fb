"""A table is scored without labels as its examples are: same ids, same groups, same probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.samples.dataset import preprocess
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.tables.table_log import read_table
from tests.scoring.random_model import write_model
from tests.tables.small_tables import Line, table_config, write_table

pytestmark = pytest.mark.spark


def scores_of(spark: SparkSession, config: Config, **section: Any) -> dict[str, Line]:
    """Returns id -> row of the scores."""
    wanted = config.model_copy(update={"score": config.score.model_copy(update=section)})
    folder = score(spark, plan_scoring(wanted)).folder
    return {row["impression_id"]: row for row in pq.read_table(folder, partitioning=None).to_pylist()}


def test_a_table_without_labels_and_times_scores_as_its_examples_do(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines: list[Line] = [
        {"id": f"i{row}", "user": f"u{row % 4}", "age": str(row % 4), "item": str(row % 7)}
        for row in range(20)
    ]
    lines.append({**lines[0], "id": ""})
    logged: list[Line | str] = [{**line, "at": 1, "click": 1, "order": 0, "price": 2.5} for line in lines]
    columns = {"age": "age", "item": "item", "price": "price"}
    config = table_config(
        tmp_path,
        write_table(tmp_path / "log.parquet", logged),
        time="at",
        earliest_time="1970-01-01",
        features=columns,
        samples={"carry": {"price": "float"}},
        model={"dim": 4, "hidden_units": [8]},
    )
    preprocess(spark, config, read_table)
    write_model(config)
    of_examples = scores_of(spark, config, partition="split=train")

    today = [{**line, "price": "3"} for line in lines]
    path = write_table(tmp_path / "today.csv", today)
    table = config.logs.table
    assert table is not None
    csv = config.logs.model_copy(update={"table": table.model_copy(update={"file_format": "csv"})})
    raw = {"source": "raw", "table": path, "partition": "ds=today"}
    found = scores_of(spark, config.model_copy(update={"logs": csv}), **raw)
    assert {*found} == {*of_examples} == {f"i{row}" for row in range(20)}
    for identifier, row in found.items():
        expected = of_examples[identifier]
        np.testing.assert_allclose(row["pctcvr"], expected["pctcvr"], rtol=1e-5)
        assert (row["group_key"], row["click"], row["price"]) == (expected["group_key"], None, 3.0)
        assert (expected["click"], expected["price"]) == (1, 2.5)
    rejects = pq.read_table(f"{config.paths.scores}/ds=today/_rejects").to_pylist()
    assert [row["reason"] for row in rejects] == ["missing_id"]

    nothing = {**raw, "table": write_table(tmp_path / "none.csv", [{**line, "id": ""} for line in today])}
    told = r"none\.csv becomes an impression: of 21 are missing_id 21: correct impression_id or context_key"
    with pytest.raises(InputError, match=told):
        scores_of(spark, config.model_copy(update={"logs": csv}), **nothing)
    with pytest.raises(ConfigError, match=r"logs\.format is table: set score\.table"):
        scores_of(spark, config, source="raw", table=None)
