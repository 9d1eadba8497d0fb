"""A finished training as a run of MLflow: parameters, curves, metrics, and the model version as artifact.

MLflow is an extra, `pip install 'esmm_spark[mlflow]'`, and is imported only where `train.mlflow` names a
server.
"""

import importlib.util
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.schemas.layout import HISTORY_NAME
from esmm_spark.contracts.schemas.records import TrainHistory
from esmm_spark.files import storage
from esmm_spark.files.local_copy import localize
from esmm_spark.files.records import read_record

_log = logging.getLogger(__name__)
_EXPERIMENT = "esmm_spark"
# MLflow takes no more at a time, and no longer values.
_METRICS_AT_ONCE, _PARAMETERS_AT_ONCE, _MOST_CHARACTERS = 1000, 100, 6000


def require_mlflow(config: Config) -> None:
    """Raises ConfigError if `train.mlflow` is set, and MLflow isn't installed."""
    if config.train.mlflow is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            f"train.mlflow = {config.train.mlflow}, but MLflow is not installed: "
            "pip install 'esmm_spark[mlflow]', or leave train.mlflow out"
        )


def report_run(config: Config, uri: str, metrics: Mapping[str, float | None]) -> None:
    """Reports a published model to the server that `train.mlflow` names; without one does nothing.

    What goes wrong is a warning: the model is published.

    Args:
        config: the whole config.
        uri: the model version.
        metrics: its validation metrics.
    """
    if config.train.mlflow is None:
        return
    try:
        run_id = _report(config.train.mlflow, config, uri, metrics)
        _log.info("MLflow: run %s at %s", run_id, config.train.mlflow)
    except Exception as error:
        _log.warning("the model is published, but not told to MLflow: %s", " ".join(str(error).split()))


def _report(server: str, config: Config, uri: str, metrics: Mapping[str, float | None]) -> str:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # By default a server that is gone is asked for four minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name(_EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(_EXPERIMENT)
    run_id: str = client.create_run(experiment_id, run_name=uri.rpartition("/")[2]).info.run_id
    now_ms = round(time.time() * 1000)
    parameters = [
        Param(key, text[:_MOST_CHARACTERS]) for key, text in _parameters(config.model_dump(mode="json"))
    ]
    history = read_record(storage.join(uri, HISTORY_NAME), TrainHistory, "train again")
    points = [Metric(key, value, now_ms, step) for key, value, step in _points(history, metrics)]
    for some in _batches(parameters, _PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=some)
    for some in _batches(points, _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=some)
    client.set_tag(run_id, "model_version", uri)
    client.log_artifacts(run_id, localize(uri), "model")
    client.set_terminated(run_id)
    return run_id


def _parameters(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yields the values of a config by their dotted paths."""
    if isinstance(content, dict | list) and content:
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for name, value in items:
            yield from _parameters(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(content)


def _points(history: TrainHistory, metrics: Mapping[str, float | None]) -> Iterator[tuple[str, float, int]]:
    """Yields name, value and step: the curve of the loss, validation by epoch, the model's own metrics."""
    for point in history.steps:
        yield "loss", point.loss, point.step
        yield "impressions_per_s", point.impressions_per_s, point.step
    for epoch in history.epochs:
        for name, value in (epoch.model_extra or {}).items():
            if value is not None:
                yield f"validation.{name}", value, epoch.step
    for name, value in metrics.items():
        if value is not None:
            yield f"model.{name}", value, history.steps[-1].step if history.steps else 0


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
