"""A model of three tasks scores: a column per probability, labels, and carried columns as they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import InputError, SpecMismatchError
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.evaluation.measure.inputs import find_scores
from esmm_spark.feed.groups import read_groups
from esmm_spark.files.schemas import arrow_schema
from esmm_spark.scoring.partition import find_record
from esmm_spark.scoring.predictor import Predictor
from esmm_spark.scoring.scoring import plan_scoring, score
from tests.funnel_examples import FUNNEL, LAYOUT, funnel_content, groups_of_three_tasks, write_funnel
from tests.scoring.random_model import RandomModel, write_model

GROUPS = groups_of_three_tasks(40, seed=5)
COLUMNS = {
    "impression_id": pa.string(),
    "group_key": pa.string(),
    "pctr": pa.float32(),
    "pcvr": pa.float32(),
    "pctcvr": pa.float32(),
    "p_repurchase": pa.float32(),
    "p_entire_repurchase": pa.float32(),
    "model_version": pa.string(),
    "click": pa.int8(),
    "conversion": pa.int8(),
    "repurchase": pa.int8(),
    "price": pa.float64(),
    "seen": pa.float64(),
    "place": pa.int64(),
    "segment": pa.string(),
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    content = funnel_content(tmp_path)
    content["losses"] = [{"task": "repurchase"}]
    return Config.model_validate(content)


def flat(name: str) -> list[Any]:
    return [value for group in GROUPS for value in group[name]]


def assert_scores_are_the_products_of(model: RandomModel, scores: pa.Table) -> None:
    """Compares with float64: conditional probabilities, and their products along the chain."""
    ctr, cvr, repurchase = model.exact_conditionals(GROUPS)
    exact = {
        "pctr": ctr,
        "pcvr": cvr,
        "pctcvr": ctr * cvr,
        "p_repurchase": repurchase,
        "p_entire_repurchase": ctr * cvr * repurchase,
    }
    for name, expected in exact.items():
        assert expected.std() > 0.05  # not all the same
        np.testing.assert_allclose(scores[name].to_numpy(), expected, rtol=1e-4, err_msg=name)


def test_scores_of_three_tasks_equal_float64_and_carry_labels_and_columns(config: Config) -> None:
    model = write_model(config)
    groups = read_groups(pa.Table.from_pylist(GROUPS, arrow_schema(LAYOUT.columns)), LAYOUT)

    batch = Predictor(model.uri).score_groups(groups, LAYOUT, batch_size=7)

    scores = pa.Table.from_batches([batch])
    assert scores.column_names == list(COLUMNS)
    assert_scores_are_the_products_of(model, scores)
    assert None in flat("repurchase")
    for name in ("impression_id", "click", "conversion", "repurchase", "price", "seen", "place", "segment"):
        assert scores[name].to_pylist() == flat(name), name


@pytest.mark.spark
def test_a_partition_of_three_tasks_is_scored_as_its_model_predicts(
    spark: SparkSession, config: Config, tmp_path: Path
) -> None:
    write_funnel(tmp_path / "dataset", {"split=test": (GROUPS, [[15, 5], [20]])})
    model = write_model(config, num_shards=2)

    scored = score(spark, plan_scoring(config))

    scores = pq.read_table(scored.folder, partitioning=None)
    assert {field.name: field.type for field in scores.schema} == COLUMNS
    ids = flat("impression_id")
    scores = scores.take([scores["impression_id"].to_pylist().index(i) for i in ids])
    assert_scores_are_the_products_of(model, scores)
    for name in ("click", "conversion", "repurchase", "price", "seen", "place", "segment"):
        assert scores[name].to_pylist() == flat(name), name
    keys = [group["group_key"] for group in GROUPS for _ in group["click"]]
    assert scores["group_key"].to_pylist() == keys
    means = scored.record.means
    assert means.keys() == set(FUNNEL.all_score_columns)
    assert means["p_entire_repurchase"] == pytest.approx(
        model.exact_conditionals(GROUPS).prod(axis=0).mean(), rel=1e-4
    )
    assert f", p_entire_repurchase {means['p_entire_repurchase']:.4g}" in str(scored)
    assert find_record(scored.folder) == scored.record
    # What evaluation reads of it.
    assert find_scores(scored.folder, FUNNEL).num_impressions == len(ids)
    assert find_scores(scored.folder, DEFAULT_TASKS).num_impressions == len(ids)
    other = FUNNEL.model_validate({"like": {}})
    with pytest.raises(InputError, match="lacks the columns p_like, like of scores"):
        find_scores(scored.folder, other)


def test_a_model_of_other_tasks_than_the_config_is_refused(config: Config, tmp_path: Path) -> None:
    write_funnel(tmp_path / "dataset", {"split=test": (GROUPS, [[40]])})
    write_model(config)
    content = json.loads(config.model_dump_json())
    del content["tasks"]["repurchase"], content["logs"]["events"]["tasks"]
    content["losses"] = [{"task": "conversion"}]
    with pytest.raises(
        SpecMismatchError,
        match=r"the config has the tasks click, conversion given click; model .* has click, conversion given "
        "click, repurchase given conversion: preprocess or train again with the same tasks",
    ):
        plan_scoring(Config.model_validate(content))
