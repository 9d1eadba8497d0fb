"""Reads a model version's objective and training curves; both may be missing."""

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.schemas.layout import HISTORY_NAME, MODEL_NAME, VERSIONS
from esmm_spark.contracts.schemas.model_info import ModelInfo
from esmm_spark.contracts.schemas.records import TrainHistory
from esmm_spark.files import storage
from esmm_spark.files.records import read_record


def read_history(models: str, version: str) -> tuple[TrainHistory | None, str]:
    """Returns the training curves of a model version, or None, and where they are or why there are none.

    Scores outlive models: a folder that was cleaned up must not stop an evaluation.

    Args:
        models: `paths.model`.
        version: the scores' model version.
    """
    uri = _file(models, version, HISTORY_NAME)
    if not storage.exists(uri):
        return None, f"there is no {uri}"
    try:
        history = read_record(uri, TrainHistory, "train again")
    except InputError as error:
        return None, str(error)
    if not history.steps and not history.epochs:
        return None, f"{uri} is empty"
    return history, uri


def read_objective(models: str, version: str) -> str | None:
    """Returns the objective that the version's model.json names, or None if that can't be read."""
    uri = _file(models, version, MODEL_NAME)
    if not storage.exists(uri):
        return None
    try:
        return read_record(uri, ModelInfo, "train again").model.objective
    except InputError:
        return None


def _file(models: str, version: str, name: str) -> str:
    return storage.join(models, VERSIONS, version, name)
