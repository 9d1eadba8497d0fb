"""The JSON records `_score.json` and `history.json`, which one room writes and another reads."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# Of the means in a ScoreRecord; a score's column follows.
MEAN_PREFIX = "mean_"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ScoreInput(_Strict):
    """What the scores follow from. Two runs with equal inputs write the same scores."""

    model_version: str
    feature_spec_digest: str
    source: Literal["examples", "raw"]
    paths: Annotated[list[str], Field(description="The dataset, or the raw files.")]
    digest: Annotated[
        str, Field(description="Of the dataset's manifest, or of the raw files' names, sizes, times.")
    ]


class ScoreRecord(BaseModel):
    """What `_score.json` of a scored partition says; beside it a mean of each score, such as `mean_pctr`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    format_version: int = 1
    input: ScoreInput
    impressions: int
    rejects: Annotated[dict[str, int], Field(description="Reason -> raw lines.")] = {}

    @property
    def means(self) -> dict[str, float | None]:
        """Column of scores -> its mean over the impressions, None where there is none."""
        return {name.removeprefix(MEAN_PREFIX): mean for name, mean in self.__pydantic_extra__.items()}


class StepRecord(BaseModel):
    """A point of the training curve: means since the point before."""

    step: Annotated[int, Field(description="Steps of the whole run done so far.")]
    epoch: int
    loss: Annotated[float, Field(description="Nats per impression, all terms of the loss together.")]
    impressions_per_s: Annotated[float, Field(description="Over all ranks.")]


class EpochRecord(BaseModel):
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


class TrainHistory(BaseModel):
    """The training curves, as `history.json` of a model version holds them."""

    steps: list[StepRecord] = []
    epochs: list[EpochRecord] = []
