"""What jobs write on a standalone Spark cluster of two workers is what they write in local mode."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm_spark.evaluation.evaluating import evaluate
from esmm_spark.scoring.scoring import plan_scoring, score
from tests.cluster.runs import Run, assert_same_examples, rows_of
from tests.cluster.standalone import Standalone
from tests.scoring.random_model import write_model

pytestmark = [pytest.mark.cluster, pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(1200)]

DAYS = ("2026-11-20", "2026-11-21")


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """A cluster that no test breaks."""
    standalone = Standalone(tmp_path_factory.mktemp("steady"))
    yield standalone
    standalone.close()


def test_preprocess(steady: Standalone, local: Run, raw: Path, tmp_path: Path) -> None:
    run = Run("demo", raw, tmp_path / "run")
    steady.run("preprocess", *run.arguments)
    assert_same_examples(run, local)


def test_score_and_evaluate(
    spark: SparkSession, steady: Standalone, local: Run, raw: Path, tmp_path: Path
) -> None:
    inputs: dict[str, Any] = {"paths__dataset": local.dataset, "paths__model": tmp_path / "model"}
    ours, theirs = (Run("demo", raw, tmp_path / name, **inputs) for name in ("cluster", "local"))
    write_model(theirs.config)
    score(spark, plan_scoring(theirs.config))
    evaluate(spark, theirs.config)
    for job in ("score", "evaluate"):
        steady.run(job, *ours.arguments)

    partition = theirs.config.score.partition
    found, expected = (rows_of(run.folder / "scores" / partition, "impression_id") for run in (ours, theirs))
    assert expected.num_rows > 0
    assert found.equals(expected)
    contents = [json.loads((run.folder / "report" / "metrics.json").read_text()) for run in (ours, theirs)]
    for name in ("counts", "metrics", "curves"):
        assert contents[0][name] == contents[1][name], name
