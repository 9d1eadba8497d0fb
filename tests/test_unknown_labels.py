"""Clicks whose conversion is unknown, from Ali-CCP's lines to the scores, with any preset."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.losses import PRESETS
from esmm_spark.samples.dataset import preprocess
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.training.run import train
from tests.samples.raw_lines import config_for, context, impression, token, write_split
from tests.training.runs import curve

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]

# Click and conversion as the lines have them, of five items: all that may be.
LABELS = [("0", "0"), ("1", "0"), ("1", "1"), ("1", ""), ("", "")]
NUM_GROUPS = 60


@pytest.fixture(scope="module")
def content(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Returns the config of a dataset that lacks a fifth of the clicks and two fifths of the conversions."""
    folder = tmp_path_factory.mktemp("unknown")
    keys = [f"k{n}" for n in range(NUM_GROUPS)]
    lines = [
        impression(f"{key}-{n}", key, token("205", f"item-{n}"), click=click, conversion=conversion)
        for key in keys
        for n, (click, conversion) in enumerate(LABELS)
    ]
    split = write_split(folder / "raw", [context(key, token("101", key)) for key in keys], lines)
    config = config_for(folder, {"train": split}, samples={"unknown_labels": "keep"})
    partition = preprocess(spark, config).partitions["split=train"]
    assert (partition.impressions, partition.unknown) == (
        5 * NUM_GROUPS,
        {"click": NUM_GROUPS, "conversion": 2 * NUM_GROUPS},
    )
    own: dict[str, Any] = config.model_dump(mode="json")
    own["model"] |= {"dim": 4, "hidden_units": [8]}
    own["train"] |= {"batch_size": 64, "epochs": 2, "threads": 1, "tensorboard": False}
    own["score"]["partition"] = "split=train"
    return own


@pytest.mark.parametrize("preset", PRESETS)
def test_any_preset_trains_what_it_can(content: dict[str, Any], preset: str, tmp_path: Path) -> None:
    own = {**content, "paths": {**content["paths"], "model": str(tmp_path / "model")}}
    own["model"] = {**content["model"], "objective": preset}
    train(Config.model_validate(own))
    losses = [loss for _, loss in curve(tmp_path / "model")]
    assert np.isfinite(losses).all()
    # The first step of self-normalised weights is not normalised.
    assert losses[-1] < losses[1]


def test_a_click_with_an_unknown_conversion_is_scored(spark: SparkSession, content: dict[str, Any]) -> None:
    config = Config.model_validate(content)
    train(config)
    score(spark, plan_scoring(config))
    scores = pq.read_table(Path(config.paths.scores) / "split=train").to_pandas()
    assert len(scores) == 5 * NUM_GROUPS
    assert scores[["pctr", "pcvr", "pctcvr"]].notna().all(axis=None)
    unknown = scores[scores.impression_id.str.endswith("-3")]
    assert (unknown.click == 1).all()
    assert unknown.conversion.isna().all()
