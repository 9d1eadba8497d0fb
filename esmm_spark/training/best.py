"""The best model of a run so far, and how it becomes a version that gets scored.

    <paths.model>/checkpoints/best/
        _SUCCESS, best.json            the step and the validation metrics
        dense.safetensors, embedding/shard-*.safetensors

It stands among the checkpoints until the run is over: a scheduled scoring job must not pick up a model whose
training still goes on.
"""

import json
from collections.abc import Mapping

import yaml
from pydantic import BaseModel, ValidationError

from esmm_spark import replacing, seals, storage
from esmm_spark.config import Config
from esmm_spark.errors import InputError
from esmm_spark.manifest import VOCABULARY
from esmm_spark.model import directory
from esmm_spark.model.arena import EmbeddingArena
from esmm_spark.model.esmm import Esmm, build_esmm
from esmm_spark.training.cluster import Cluster
from esmm_spark.training.folders import CHECKPOINTS, ModelLease, told, write_folder
from esmm_spark.training.state import TrainState

_BEST = "best"
_FACTS = "best.json"


class BestFacts(BaseModel):
    """What best.json says."""

    step: int
    num_shards: int
    metrics: dict[str, float | None]


def best_uri(root: str) -> str:
    """Returns where the best model of a run lies below the models' root."""
    return storage.join(root, CHECKPOINTS, _BEST)


def write_best(
    holder: ModelLease,
    state: TrainState,
    metrics: Mapping[str, float | None],
    arena: EmbeddingArena,
    model: Esmm,
    cluster: Cluster,
) -> None:
    """Keeps the parameters as the best so far. All ranks call this together.

    Args:
        holder: this run's right to write `paths.model`.
        state: says after which step.
        metrics: validation metrics.
        arena: this rank's rows.
        model: the dense part.
        cluster: the ranks.
    """
    facts = BestFacts(step=state.global_step, num_shards=cluster.num_ranks, metrics=dict(metrics))

    def write_shard(staging: str) -> None:
        directory.write_shard(staging, arena.local_rows(), cluster.rank, cluster.num_ranks)

    def write_rest(staging: str) -> None:
        directory.write_dense(staging, model)
        storage.write_text(storage.join(staging, _FACTS), facts.model_dump_json(indent=1))

    rest = (directory.DENSE_NAME, _FACTS)
    write_folder(best_uri(holder.root), write_shard, write_rest, rest, cluster, holder)


def publish_best(holder: ModelLease, config: Config, state: TrainState, cluster: Cluster) -> str:
    """Makes the best model of a finished run the newest version and returns its URI. All ranks call this.

    A run that was published before has no best model any more: then the newest version is returned.

    Raises:
        InputError: there is neither a best model nor a version.
    """
    root = holder.root
    best = best_uri(root)
    if cluster.is_first:
        replacing.recover(best)
    if not cluster.from_first(int(cluster.is_first and storage.is_complete(best)), "best.exists"):
        return directory.find_model(root)
    facts = _read_facts(best)
    model: Esmm | None = None
    info: directory.ModelInfo | None = None
    new: replacing.Replacement | None = None
    if holder.lease is not None:
        model = build_esmm(config.model, config.features)
        directory.load_parameters(model, storage.join(best, directory.DENSE_NAME))
        info = directory.new_version(
            root, config.model, config.features, model, step=facts.step, num_shards=facts.num_shards
        )
        new = directory.begin_version(root, info, holder.lease)
    staging = cluster.text_from_first(new.folder if new else "", "best.staging")

    def copy_shards() -> None:
        for shard in range(cluster.rank, facts.num_shards, cluster.num_ranks):
            _copy(storage.join(best, directory.shard_name(shard, facts.num_shards)), staging, shard, facts)

    def finish() -> str:
        if info is None or model is None or new is None:
            return ""
        needs_vocabulary = config.features.needs_vocabulary
        vocabulary = storage.join(config.paths.dataset, VOCABULARY) if needs_vocabulary else None
        uri = directory.publish(
            new,
            info,
            model,
            config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
            metrics=facts.metrics,
            history=state.history.model_dump(mode="json"),
            vocabulary=vocabulary,
        )
        storage.delete(best)
        return uri

    what = f"paths.model {root}"
    cluster.together(lambda: told(what, copy_shards), "best.copy")
    return cluster.text_from_first(
        cluster.together(lambda: told(what, finish), "best.publish"), "best.published"
    )


def metrics_at(version: str) -> dict[str, float | None]:
    """Returns the validation metrics of a model directory."""
    uri = storage.join(version, "metrics.json")
    try:
        content: dict[str, float | None] = json.loads(seals.read_sealed(uri, "train again"))
    except ValueError as error:
        raise InputError(f"{uri} can't be read: train again") from error
    return content


def _read_facts(best: str) -> BestFacts:
    uri = storage.join(best, _FACTS)
    remedy = f"delete {best} and train again"
    try:
        return BestFacts.model_validate_json(seals.read_sealed(uri, remedy))
    except ValidationError as error:
        raise InputError(f"{uri} can't be read: {remedy}") from error


def _copy(source: str, staging: str, shard: int, facts: BestFacts) -> None:
    storage.copy_file(source, storage.join(staging, directory.shard_name(shard, facts.num_shards)))
