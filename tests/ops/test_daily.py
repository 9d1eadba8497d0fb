"""ops/airflow/esmm_daily.py, and with it ops/daily.sh, run by Airflow on three simulated days."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from esmm_spark.contracts.schemas.layout import EXAMPLES, MARKER
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.model.directory import find_model
from tests.cluster.venvs import venv_of
from tests.repository import ROOT

AIRFLOW = ROOT / "ops" / "airflow"
DAYS = ("2026-11-20", "2026-11-21", "2026-11-22")


@pytest.fixture(scope="module")
def airflow() -> Path:
    """Returns the airflow command of a venv of its own, kept from run to run in the user's cache."""
    return venv_of("airflow", AIRFLOW / "requirements.lock") / "bin" / "airflow"


class Schedule:
    """Airflow's DAG over the days of a simulated log, all below one folder."""

    def __init__(self, airflow: Path, folder: Path) -> None:
        self.airflow, self.folder = airflow, folder
        home = folder / "airflow"
        self.environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(AIRFLOW),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "ESMM_SPARK_HOME": str(ROOT),
            "ESMM_SPARK_CONFIG": str(self._write_config()),
            "ESMM_SPARK_LOGS": str(folder / "raw" / "impressions"),
            "ESMM_SPARK_START": DAYS[0],
            "ESMM_SPARK_RETRIES": "0",
            "ESMM_SPARK_RELEASE": f'echo "$DAY" >>"{folder}/released"',
            "ESMM_SPARK_ALERT": f'cat >>"{folder}/alerts"',
        }
        for name in ("PYSPARK_SUBMIT_ARGS", "SPARK_CONF_DIR"):
            self.environment.pop(name, None)
        subprocess.run([airflow, "db", "migrate"], env=self.environment, check=True, capture_output=True)

    def _write_config(self) -> Path:
        content = yaml.safe_load((ROOT / "conf" / "events.yaml").read_text(encoding="utf-8"))
        content["extends"] = str(ROOT / "conf" / "demo.yaml")
        raw = self.folder / "raw"
        content["paths"] = {
            name: str(self.folder / name) for name in ("dataset", "model", "scores", "report")
        }
        events = content["logs"]["events"]
        for log in ("impressions", "clicks", "conversions"):
            events[log]["path"] = str(raw / log)
        events["catalogs"][0]["path"] = str(raw / "items")
        content["evaluate"] |= {"truth": str(raw / "truth.parquet"), "bootstrap_samples": 20}
        content["train"] = {"epochs": 1, "batch_size": 512}
        path = self.folder / "daily.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def run(self, day: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the DAG of a day, its tasks one after the other, without a scheduler."""
        return subprocess.run(
            [self.airflow, "dags", "test", *options, "esmm_daily", day],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def lines(self, name: str) -> list[str]:
        """Returns the lines of a file that the schedule's own commands write."""
        path = self.folder / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def content(self) -> dict[str, str]:
        """Returns path -> SHA-256 of everything that others read: examples, the model, scores, metrics."""
        model = Path(find_model(str(self.folder / "model")))
        folders = (self.folder / "dataset" / EXAMPLES, model, self.folder / "scores", self.folder / "report")
        files = [
            path
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.suffix in (".parquet", ".safetensors") or path.name == "metrics.json"
        ]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def schedule(airflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Schedule:
    """A schedule whose logs are there, and that has run for all days."""
    folder = tmp_path_factory.mktemp("schedule")
    raw = folder / "raw"
    options = ["--output", str(raw), "--num-groups", "1500", "--seed", "1", "--preset", "demo"]
    command = [sys.executable, "jobs/simulate.py", "--format", "events", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return Schedule(airflow, folder)


def assert_ended_well(done: subprocess.CompletedProcess[str]) -> None:
    """Raises with the tasks' output unless the DAG run succeeded."""
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


# In this order: each test goes on where the one before ended.
@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_three_days_end_with_scores_that_are_released(schedule: Schedule) -> None:
    for day in DAYS:
        # A log whose writer hasn't ended is waited for.
        (schedule.folder / "raw" / "impressions" / f"ds={day}" / MARKER).touch()
        assert_ended_well(schedule.run(day))
        assert sorted(read_manifest(str(schedule.folder / "dataset")).partitions)[-1] == f"ds={day}"
        # The first two days are there to train and to validate on.
        assert schedule.lines("released") == ([day] if day == DAYS[2] else [])
    metrics = json.loads((schedule.folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["partition"] == f"ds={DAYS[2]}"
    assert {Path(path).suffix for path in schedule.content()} == {".parquet", ".safetensors", ".json"}


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_the_same_day_again_changes_nothing(schedule: Schedule) -> None:
    before = schedule.content()
    assert_ended_well(schedule.run(DAYS[2]))
    assert before
    assert schedule.content() == before
    assert schedule.lines("alerts") == []


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_a_gate_that_no_model_passes_fails_the_run_and_is_told(schedule: Schedule) -> None:
    released = schedule.lines("released")
    # What comes before the gate has run.
    before_it = ("--mark-success-pattern", "preprocess|train|score")
    done = schedule.run(DAYS[2], *before_it, ESMM_SPARK_OVERRIDES="evaluate.require.ctcvr_auc=1.0")
    assert done.returncode != 0
    assert "exit code 3" in done.stdout + done.stderr
    assert released
    assert schedule.lines("released") == released
    (alert,) = schedule.lines("alerts")
    assert alert.startswith(f"esmm_daily: evaluate of {DAYS[2]} failed")
