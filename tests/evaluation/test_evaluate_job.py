"""jobs/evaluate.py as a command."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from esmm_spark.contracts.schemas.run_record import RunRecord
from tests.evaluation.scored_data import write_scores
from tests.repository import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/evaluate.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_help_needs_neither_spark_nor_matplotlib() -> None:
    script = (
        "import runpy, sys; sys.argv = ['evaluate.py', '--help']\n"
        "try: runpy.run_path('jobs/evaluate.py', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'pyspark', 'matplotlib', 'torch', 'pandas'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert "--config FILE" in found.stdout
    assert found.stdout.splitlines()[-1] == "[]"


def test_a_mistake_in_the_config_is_one_line_and_exit_code_2() -> None:
    found = run("--config", "conf/demo.yaml", "evaluate.bootstrap_samples=-1")
    assert found.returncode == 2
    assert len(found.stderr.splitlines()) == 1
    assert "evaluate.bootstrap_samples = -1" in found.stderr


@pytest.mark.spark
@pytest.mark.slow
def test_the_command_ends_with_the_table_and_the_reports_path(data: pd.DataFrame, tmp_path: Path) -> None:
    too_high = data.assign(pctcvr=(2 * data.pctcvr).clip(upper=1))
    write_scores(tmp_path / "scores" / "split=test", too_high)
    arguments = ["--config", "conf/demo.yaml", "evaluate.truth=null", "evaluate.baseline_scores=null"]
    arguments += [f"paths.{name}={tmp_path / name}" for name in ("dataset", "model", "scores", "report")]
    found = run(
        *arguments,
        "evaluate.bootstrap_samples=5",
        "evaluate.require={ctr_auc: 0.5, ctcvr_auc: 0.999, ctcvr_calibration: [0.9, 1.1]}",
    )
    # The report is written all the same.
    assert found.returncode == 3, found.stderr
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    measured = metrics["metrics"]["model"]
    auc, calibration = measured["ctcvr_auc"]["value"], measured["ctcvr_calibration"]["value"]
    reasons = [
        f"ctcvr_auc = {auc:.5f}: required is at least 0.999",
        f"ctcvr_calibration = {calibration:.5f}: required is from 0.9 to 1.1",
    ]
    summary = f"2 of 3 requirements are not met: {'; '.join(reasons)}"
    errors = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: {line}" for line in (*reasons, summary)]
    record = RunRecord.model_validate_json((tmp_path / "report.run.json").read_text())
    assert (record.exit_code, record.error, record.rows_in) == (3, summary, len(data))
    assert {name: found["is_met"] for name, found in metrics["requirements"].items()} == {
        "ctr_auc": True,
        "ctcvr_auc": False,
        "ctcvr_calibration": False,
    }
    assert metrics["requirements"]["ctcvr_auc"]["found"] == auc
    assert [line[:40] for line in found.stderr.splitlines() if line.startswith("warning: ")] == [
        "warning: CTCVR: ESMM's pctcvr add up to "
    ]
    lines = found.stdout.splitlines()
    assert lines[-1] == f"report: {tmp_path / 'report' / 'report.html'}"
    assert sum(line.lstrip().startswith("ESMM") for line in lines) == 4
    assert sum(line.startswith(("met: ", "NOT MET: ")) for line in lines) == 3
