"""The record `model.json` of a model version."""

import re
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.fitted import FittedNumber
from esmm_spark.contracts.losses import Term
from esmm_spark.contracts.objective import Objective, resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.contracts.train_config import Model

_FORMAT_VERSION = 1
VERSION_PATTERN = re.compile(r"(\d{6,})-[0-9a-f]{8}")


class ModelInfo(BaseModel):
    """What `model.json` of a model version says: training writes it, scoring and evaluation read it."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    format_version: int = _FORMAT_VERSION
    model_version: Annotated[str, Field(pattern=VERSION_PATTERN.pattern, description="`000001-3f9a12bc`.")]
    feature_spec: FeatureSpec
    feature_spec_digest: str
    fitted: Annotated[
        dict[str, FittedNumber], Field(description="The dataset's: by what its numbers were placed.")
    ] = {}
    tasks: Annotated[Tasks, Field(description="What it predicts.")] = DEFAULT_TASKS
    losses: Annotated[list[Term], Field(description="The config's, where they are no preset's.")] = []
    model: Annotated[Model, Field(description="The config's model section.")]
    num_shards: Annotated[int, Field(ge=1, description="Files of the embedding.")]
    step: Annotated[int, Field(ge=0, description="Steps that it was trained for.")]

    @property
    def num_rows(self) -> int:
        """Rows of the arena."""
        return self.feature_spec.num_rows * self.objective.num_embeddings

    @cached_property
    def objective(self) -> Objective:
        """Tasks, terms and heads."""
        return resolve(self.model, self.losses, self.tasks)
