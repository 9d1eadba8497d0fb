from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import DEFAULT_COLUMNS
from esmm_spark.feed.groups import Groups, Layout, read_groups
from esmm_spark.scoring.predictor import Predictor, predictor_of
from esmm_spark.scoring.score_file import score_schema
from tests.scoring.random_model import write_model
from tests.synthetic_examples import SCHEMA, SPEC, UNPOOLED, Group, config_content, random_groups


def config_of(folder: Path, spec: FeatureSpec = SPEC, **model: Any) -> Config:
    content = {**config_content(folder), "features": spec.model_dump(mode="json")}
    return Config.model_validate({**content, "model": {**content["model"], **model}})


LAYOUT = Layout(SPEC, for_scoring=True)


def groups_of(rows: list[Group], layout: Layout = LAYOUT) -> Groups:
    return read_groups(pa.Table.from_pylist(rows, SCHEMA), layout)


def probabilities(scores: pa.RecordBatch) -> Any:
    return np.stack([scores.column(name).to_numpy() for name in ("pctr", "pcvr", "pctcvr")])


@pytest.mark.parametrize(
    ("model", "num_shards"),
    [
        ({"objective": "esmm"}, 1),
        ({"objective": "esmm"}, 3),
        ({"objective": "base"}, 1),
        ({"objective": "base"}, 2),
        ({"network": "dcn", "activation": "relu", "dim": 6}, 1),
    ],
)
def test_scores_equal_the_models_own_output(tmp_path: Path, model: dict[str, Any], num_shards: int) -> None:
    written = write_model(config_of(tmp_path, **model), num_shards=num_shards)
    groups = random_groups(30, seed=5)

    scores = Predictor(written.uri).score_groups(groups_of(groups), LAYOUT, batch_size=7)

    expected = written.own_output(groups)
    assert expected[0].std() > 0.05  # not all the same
    np.testing.assert_allclose(probabilities(scores), expected, rtol=2e-5)
    assert scores.schema.equals(score_schema(DEFAULT_COLUMNS))
    assert scores.column("impression_id").to_pylist() == [i for g in groups for i in g["impression_id"]]
    assert scores.column("group_key").to_pylist() == [g["group_key"] for g in groups for _ in g["click"]]
    for name in ("click", "conversion"):
        assert scores.column(name).to_pylist() == [label for g in groups for label in g[name]]


def test_the_batch_size_does_not_change_the_scores(tmp_path: Path) -> None:
    predictor = Predictor(write_model(config_of(tmp_path)).uri)
    read = groups_of(random_groups(30, seed=5))
    whole = probabilities(predictor.score_groups(read, LAYOUT, batch_size=10**6))
    for batch_size in (1, 10):
        np.testing.assert_allclose(
            probabilities(predictor.score_groups(read, LAYOUT, batch_size)), whole, rtol=1e-5
        )


@pytest.mark.parametrize("batch_size", [1, 7, 10**6])
@pytest.mark.slow
def test_scores_from_histories_value_by_value_equal_the_models_own_output(
    tmp_path: Path, batch_size: int
) -> None:
    written = write_model(config_of(tmp_path, UNPOOLED, network="din"), num_shards=2)
    groups, layout = random_groups(30, seed=5), Layout(UNPOOLED, for_scoring=True)

    scores = Predictor(written.uri).score_groups(groups_of(groups, layout), layout, batch_size)

    expected = written.own_output(groups)
    assert expected[0].std() > 0.05  # not all the same
    np.testing.assert_allclose(probabilities(scores), expected, rtol=5e-5)


def test_no_groups_give_no_scores(tmp_path: Path) -> None:
    scores = Predictor(write_model(config_of(tmp_path)).uri).score_groups(
        groups_of([]), LAYOUT, batch_size=10
    )
    assert scores.num_rows == 0
    assert scores.schema.equals(score_schema(DEFAULT_COLUMNS))


def test_a_worker_keeps_its_model_and_lets_it_go_for_a_new_one(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    first, second = write_model(config), write_model(config, seed=1)
    names = [Path(model.uri).name for model in (first, second)]
    kept = predictor_of(first.uri, names[0])
    assert predictor_of(first.uri, names[0]) is kept
    assert predictor_of(second.uri, names[1]).info.model_version == names[1]
    assert predictor_of.cache_info().currsize == 1
