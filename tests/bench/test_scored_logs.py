"""The evaluate stage's scores: what an evaluation takes, the same every time."""

from pathlib import Path

import pyarrow.parquet as pq

from bench.scored_logs import PARTITION, write_scored
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.evaluation.measure.inputs import find_scores, find_truth
from tests.evaluation.local_job import measure_locally


def test_both_models_and_truth_can_be_evaluated(tmp_path: Path) -> None:
    write_scored(tmp_path, 30_000, seed=1)
    sources = {
        "model": find_scores(str(tmp_path / "scores" / PARTITION), DEFAULT_TASKS),
        "baseline": find_scores(str(tmp_path / "base" / PARTITION), DEFAULT_TASKS),
        "oracle": find_truth(str(tmp_path / "truth.parquet"), DEFAULT_TASKS),
    }
    assert sources["oracle"].num_impressions == 2 * sources["model"].num_impressions == 60_000
    found = measure_locally(sources, 20)
    aucs = [found.estimates[name, "ctr_auc"].value or 0 for name in ("baseline", "model", "oracle")]
    assert 0.6 < aucs[0] < aucs[1] < aucs[2] < 0.9
    assert found.num_groups == -(-30_000 // 58)
    assert 0.02 < found.labels["ctr"].positives / 30_000 < 0.06


def test_files_are_those_of_every_run(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_scored(tmp_path / name, 3000, seed=2)
    for path in sorted((tmp_path / "first").rglob("*.parquet")):
        other = tmp_path / "second" / path.relative_to(tmp_path / "first")
        assert pq.read_table(path, partitioning=None).equals(pq.read_table(other, partitioning=None))
