"""`train.mlflow`: a published model as a run of MLflow, read back from its database without MLflow."""

import importlib.util
import logging
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.training.tracking import mlflow_run
from esmm_spark.training.tracking.mlflow_run import report_run, require_mlflow
from tests.cluster.venvs import venv_of
from tests.repository import ROOT
from tests.synthetic_examples import small_config
from tests.training.conftest import SETTINGS
from tests.training.runs import command, curve, environment, metrics, newest_version

LOCK = ROOT / "tests" / "cluster" / "mlflow.lock"
NewRun = Callable[..., Path]


@pytest.fixture(scope="module")
def python() -> str:
    """The Python of a venv that has MLflow beside our own packages."""
    return str(venv_of("mlflow", LOCK, beside_ours=True) / "bin" / "python")


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_a_published_model_is_a_run_with_parameters_curves_metrics_and_itself(
    new_run: NewRun, tmp_path: Path, python: str
) -> None:
    config = new_run(mlflow=f"sqlite:///{tmp_path}/mlflow.db")
    done = subprocess.run(
        [python, *command(1, config)[1:]],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "MLflow: run " in done.stderr
    model = tmp_path / "model"
    version = newest_version(model)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        ((name, status),) = database.execute("SELECT name, status FROM runs").fetchall()
        parameters = dict(database.execute("SELECT key, value FROM params").fetchall())
        points = database.execute("SELECT key, step, value FROM metrics ORDER BY step").fetchall()
        tags = dict(database.execute("SELECT key, value FROM tags").fetchall())
    database.close()
    assert (name, status, tags["model_version"]) == (version.name, "FINISHED", str(version))
    assert parameters["train.checkpoint_every_steps"] == "5"
    assert parameters["features.fields.0.name"] == "user"
    losses = [(step, value) for key, step, value in points if key == "loss"]
    assert losses == curve(model)
    validated = [(step, value) for key, step, value in points if key == "validation.ctcvr_auc"]
    assert [step for step, _ in validated] == [16, 32]
    (found,) = [value for key, _, value in points if key == "model.ctcvr_auc"]
    assert found == pytest.approx(metrics(model)["ctcvr_auc"])
    (copy,) = tmp_path.glob("mlruns/*/*/artifacts/model")
    assert {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == {
        path.relative_to(version): path.read_bytes() for path in version.rglob("*") if path.is_file()
    }


def test_without_mlflow_a_run_that_asks_for_it_is_refused_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    require_mlflow(small_config(tmp_path, **SETTINGS))
    with pytest.raises(ConfigError, match=r"train\.mlflow = sqlite:///x, but MLflow is not installed: pip"):
        require_mlflow(small_config(tmp_path, **SETTINGS, mlflow="sqlite:///x"))


def test_a_server_that_cannot_be_reached_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> str:
        raise ConnectionError("nobody\nanswers")

    monkeypatch.setattr(mlflow_run, "_report", refuse)
    report_run(small_config(tmp_path, **SETTINGS), "model", {})
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        report_run(small_config(tmp_path, **SETTINGS, mlflow="http://host:1"), "model", {})
    assert caplog.messages == ["the model is published, but not told to MLflow: nobody answers"]
