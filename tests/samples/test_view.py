"""The view for people."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from esmm_spark.samples.dataset import preprocess
from esmm_spark.samples.view import samples_view
from tests.funnel_examples import LAYOUT, groups_of_three_tasks, write_funnel
from tests.samples.raw_lines import SPEC, config_for, context, impression, token, write_split

pytestmark = pytest.mark.spark


def test_examples_explode_to_one_row_per_impression_with_a_column_per_field(
    spark: SparkSession, tmp_path: Path
) -> None:
    logs = write_split(
        tmp_path,
        [context("k", token("109", "7"), token("109", "8")), context("l", token("101", "u1"))],
        [
            impression("1", "k", token("205", "7"), click=1),
            impression("2", "k", token("301", "2"), token("301", "1")),
            impression("3", "l"),
        ],
    )
    config = config_for(tmp_path, {"train": logs})
    preprocess(spark, config)
    examples = spark.read.parquet(f"{config.paths.dataset}/examples/split=train")
    view = samples_view(examples, SPEC)
    assert view.columns == ["impression_id", "group_key", "click", "conversion", "101", "109", "205", "301"]
    # Buckets as in test_golden: item 7 is 29, item 8 is 20, pos 1 is 4, pos 2 is 2, user u1 is 24.
    assert [tuple(row) for row in view.orderBy("impression_id").collect()] == [
        ("1", "k", 1, 0, [], [29, 20], [29], []),
        ("2", "k", 0, 0, [], [29, 20], [], [2, 4]),
        ("3", "l", 0, 0, [24], [], [], []),
    ]


def test_labels_of_any_tasks_and_carried_columns_stand_beside_the_ids(
    spark: SparkSession, tmp_path: Path
) -> None:
    groups = groups_of_three_tasks(30, seed=3)
    manifest = write_funnel(tmp_path, {"split=test": (groups, [[10], [20]])})
    view = samples_view(
        spark.read.parquet(f"{tmp_path}/examples/split=test"), manifest.feature_spec, manifest.brought
    )
    names = ["click", "conversion", "repurchase", "price", "seen", "place", "segment"]
    fields = [field.name for field in LAYOUT.spec.fields]
    assert view.columns == ["impression_id", "group_key", *names, *fields]
    assert dict(view.select("repurchase", "price", "place", "segment").dtypes) == {
        "repurchase": "tinyint",
        "price": "double",
        "place": "bigint",
        "segment": "string",
    }
    found = {row.impression_id: tuple(row[name] for name in names) for row in view.collect()}
    assert found == {
        impression: tuple(group[name][place] for name in names)
        for group in groups
        for place, impression in enumerate(group["impression_id"])
    }
