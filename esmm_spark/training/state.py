"""The state of a training run beside its parameters, as a checkpoint holds it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from esmm_spark.contracts.schemas.records import TrainHistory


class TrainState(BaseModel):
    """The position of a run, always at a boundary between two steps."""

    model_config = ConfigDict(extra="forbid")

    run_digest: Annotated[str, Field(description="Of `run_content`; see resume.run_digest.")]
    run_content: Annotated[
        dict[str, Any],
        Field(description="What the run's result depends on, by name; see resume.run_content."),
    ] = {}
    run_number: Annotated[
        int, Field(ge=1, description="Runs of one models folder are counted; the newest goes on.")
    ] = 1
    run_id: Annotated[str | None, Field(description="The name that train.run_id gave the run.")] = None
    started_over: Annotated[bool, Field(description="Whether train.resume=false began the run.")] = False
    data: Annotated[
        dict[str, dict[str, str]], Field(description="What it has; see trained_data.digests_of_data.")
    ] = {}
    num_streams: int
    num_shards: Annotated[int, Field(description="Shards of the embedding in the checkpoint.")] = 1
    epoch: Annotated[int, Field(description="The epoch that goes on, from 0.")] = 0
    next_step: Annotated[int, Field(description="The step of that epoch that comes next.")] = 0
    global_step: Annotated[int, Field(description="Steps done in the whole run.")] = 0
    seen_impressions: Annotated[
        int, Field(description="Impressions of this epoch seen so far, all ranks.")
    ] = 0
    seen_hash_sum: Annotated[
        int, Field(description="Sum of group_hash of this epoch's groups so far, modulo 2^64, signed.")
    ] = 0
    best_auc: Annotated[
        float | None,
        Field(description="The best validation AUC so far, `train.best_metric`'s."),
    ] = None
    epochs_without_gain: int = 0
    weight_means: Annotated[
        list[float], Field(description="Of self-normalised terms; see objectives/weight_means.py.")
    ] = []
    finished: bool = False
    history: TrainHistory = TrainHistory()
