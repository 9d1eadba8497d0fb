"""What jobs write on a standalone Spark cluster of two workers is what they write in local mode."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.schemas.layout import LABELS, REJECTS
from esmm_spark.evaluation.evaluating import evaluate
from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.simulation.simulate_events import Days, simulate_events
from tests.cluster.runs import Run, assert_same_examples, rows_of
from tests.cluster.standalone import Standalone
from tests.scoring.random_model import write_model

pytestmark = [pytest.mark.cluster, pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(1200)]

DAY = "2026-11-20"


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


def test_a_day_of_event_logs(spark: SparkSession, steady: Standalone, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    simulate_events(spark, str(raw), 200, 1, "demo", Days(date.fromisoformat(DAY), 2))
    ours, theirs = (
        Run("events", raw, tmp_path / name, samples__num_files=4) for name in ("cluster", "local")
    )
    build_days(spark, theirs.config, parse_day(DAY, None))
    steady.run("preprocess", *ours.arguments, "--ds", DAY)
    assert_same_examples(ours, theirs)
    assert read_manifest(str(ours.dataset)).days == read_manifest(str(theirs.dataset)).days
    for kind, keys in ((LABELS, ["impression_id"]), (REJECTS, ["line", "source", "reason"])):
        found, expected = (rows_of(run.dataset / kind / f"ds={DAY}", *keys) for run in (ours, theirs))
        assert expected.num_rows > 0
        assert found.equals(expected), kind
