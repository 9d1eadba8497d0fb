"""From a path to a report with the written config as it is."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config_file import load_config
from esmm_spark.evaluation.evaluating import evaluate
from esmm_spark.profile.counts.opening import guess_table
from esmm_spark.profile.profiling import profile_table
from esmm_spark.samples.dataset import preprocess
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.tables.table_log import read_table
from tests.training.runs import run

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]


def lines(num_users: int) -> pd.DataFrame:
    random = np.random.default_rng(3)
    rows = []
    for user in range(num_users):
        for _ in range(random.integers(1, 6)):
            item = int(random.integers(20))
            click = int(random.random() < 0.2 + 0.03 * item)
            # A few orders have no click: another page's.
            order = int(random.random() < (0.5 if click else 0.02))
            price = round(float(random.lognormal(2, 1)), 2)
            part = "train" if user % 10 < 7 else "test"
            rows.append((user, user % 7 or None, item, price, click, order, price if order else None, part))
    names = ["user_id", "age_group", "item.id", "price", "is_click", "is_order", "paid", "part"]
    return pd.DataFrame(rows, columns=names)


def test_a_tsv_is_profiled_trained_scored_and_evaluated_with_the_written_config(
    spark: SparkSession, tmp_path: Path
) -> None:
    data = lines(300)
    data.to_csv(tmp_path / "log.tsv", sep="\t", index=False)
    found = profile_table(spark, guess_table(str(tmp_path / "log.tsv")), None, str(tmp_path / "run/profile"))
    assert found.config.needed == []
    config = load_config(str(tmp_path / "run/profile/config.yaml"), ["evaluate.bootstrap_samples=5"])
    assert {field.name: field.level for field in config.features.fields} == {
        "user_id": "context",
        "age_group": "context",
        "item.id": "impression",
        "price": "impression",
    }
    manifest = preprocess(spark, config, read_table)
    is_orphan = (data.is_order == 1) & (data.is_click == 0)
    orphans = int(is_orphan.sum())
    tested = int(((data.part == "test") & ~is_orphan).sum())
    assert manifest.partitions["split=test"].impressions == tested
    assert (manifest.sources[0].notes["filtered"], sum(manifest.sources[0].rejects.values())) == (orphans, 0)

    trained = run(1, tmp_path / "run/profile/config.yaml")
    assert trained.returncode == 0, trained.stderr
    score(spark, plan_scoring(config))
    evaluate(spark, config)
    assert "ctr" in json.dumps(json.loads((tmp_path / "run/report/metrics.json").read_text()))
