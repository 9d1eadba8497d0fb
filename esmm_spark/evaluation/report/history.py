"""The model's objective and training curves, from its folder. Both may be missing."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.schemas.layout import HISTORY_NAME, MODEL_NAME, VERSIONS
from esmm_spark.files import seals, storage


class StepPoint(BaseModel):
    """A point of the training curve: means since the point before."""

    model_config = ConfigDict(extra="ignore")

    step: int
    loss: float
    impressions_per_s: float | None = None


class EpochPoint(BaseModel):
    """The validation metrics after an epoch, such as `ctr_auc`; None where one is not defined."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    epoch: int
    step: int

    @property
    def aucs(self) -> dict[str, float]:
        """The AUCs that are defined, by what they are of: `ctr` for `ctr_auc`."""
        metrics = self.__pydantic_extra__.items()
        return {
            name.removesuffix("_auc"): value
            for name, value in metrics
            if name.endswith("_auc") and value is not None
        }


class History(BaseModel):
    """The training curves, as docs/architecture.md shows history.json."""

    model_config = ConfigDict(extra="ignore")

    steps: list[StepPoint] = []
    epochs: list[EpochPoint] = []


class _Section(BaseModel):
    objective: str


class _ModelFile(BaseModel):
    model: _Section


def read_history(models: str, version: str) -> tuple[History | None, str]:
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
        history = History.model_validate_json(seals.read_sealed(uri, "train again"))
    except InputError as error:
        return None, str(error)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        return None, f"{uri} can't be read: {where}: {first['msg']}"
    if not history.steps and not history.epochs:
        return None, f"{uri} is empty"
    return history, uri


def read_objective(models: str, version: str) -> str | None:
    """Returns `esmm` or `base` from the version's model.json, or None if there is none that says so."""
    uri = _file(models, version, MODEL_NAME)
    if not storage.exists(uri):
        return None
    try:
        return _ModelFile.model_validate_json(seals.read_sealed(uri, "train again")).model.objective
    except (ValidationError, InputError):
        return None


def _file(models: str, version: str, name: str) -> str:
    return storage.join(models, VERSIONS, version, name)
