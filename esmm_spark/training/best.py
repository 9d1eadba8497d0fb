"""The best model of a run so far, and its publication as a version.

    <paths.model>/checkpoints/best-0001/    of run 1
        _SUCCESS, best.json            the step and the validation metrics
        dense.safetensors, embedding/shard-*.safetensors

It stands among the checkpoints until the run is over: a scheduled scoring job must not pick up a model whose
training still goes on.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import IncompleteError, InputError
from esmm_spark.contracts.fields.fitted import FittedNumbers
from esmm_spark.contracts.schemas.layout import CHECKPOINTS, DENSE_NAME, METRICS_NAME, VOCABULARY
from esmm_spark.contracts.schemas.model_info import ModelInfo
from esmm_spark.files import replacing, seals, storage
from esmm_spark.model import directory, shards
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.esmm import Esmm, build_esmm
from esmm_spark.training.folders import ModelLease, best_name, told, write_folder
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.state import TrainState

_FACTS = "best.json"


class BestFacts(BaseModel):
    """What best.json says."""

    step: int
    num_shards: int
    metrics: dict[str, float | None]


class _Publication(NamedTuple):
    """The best model while it is published as a version."""

    facts: BestFacts
    model: Esmm
    info: ModelInfo
    version: replacing.Replacement


def best_uri(root: str, run_number: int) -> str:
    """Returns where the best model of a run lies below the models' root."""
    return storage.join(root, CHECKPOINTS, best_name(run_number))


def is_unpublished(root: str, run_number: int) -> bool:
    """Returns whether a run has a best model that is no version yet. Only the holder of the lease asks."""
    best = best_uri(root, run_number)
    replacing.recover(best)
    return storage.is_complete(best)


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
        shards.write_shard(staging, arena.local_rows(), cluster.rank, cluster.num_ranks)

    def write_rest(staging: str) -> None:
        directory.write_dense(staging, model)
        storage.write_text(storage.join(staging, _FACTS), facts.model_dump_json(indent=1))

    rest = (DENSE_NAME, _FACTS)
    write_folder(best_uri(holder.root, state.run_number), write_shard, write_rest, rest, cluster, holder)


def publish_best(
    holder: ModelLease, config: Config, state: TrainState, cluster: Cluster, fitted: FittedNumbers
) -> str:
    """Makes the best model of a finished run the newest version and returns its URI. All ranks call this.

    A run that was published before has no best model any more: then the newest version is returned.

    Args:
        holder: the lease on the models folder.
        config: the whole config.
        state: of the run.
        cluster: the ranks.
        fitted: the dataset's.

    Raises:
        UserError: the best model or the newest version can't be read, or there is neither.
    """
    root = holder.root
    best = best_uri(root, state.run_number)

    def begin() -> _Publication | str:
        if holder.lease is None:
            return ""
        if not is_unpublished(root, state.run_number):
            return _published(root)
        facts = _read_facts(best)
        model = build_esmm(config.model, config.features, config.objective)
        directory.load_parameters(model, storage.join(best, DENSE_NAME))
        info = directory.new_version(
            root,
            config.model,
            config.features,
            model,
            step=facts.step,
            num_shards=facts.num_shards,
            fitted=fitted,
        )
        return _Publication(facts, model, info, directory.begin_version(root, info, holder.lease))

    what = f"paths.model {root}"
    begun = cluster.together(lambda: told(what, begin), "best.begin")
    already, new = ("", begun) if isinstance(begun, _Publication) else (begun, None)
    already = cluster.text_from_first(already, "best.already")
    if already:
        return already
    staging = cluster.text_from_first(new.version.folder if new else "", "best.staging")
    num_shards = cluster.from_first(new.facts.num_shards if new else 0, "best.shards")

    def copy_shards() -> None:
        for shard in range(cluster.rank, num_shards, cluster.num_ranks):
            name = shards.shard_name(shard, num_shards)
            storage.copy_file(storage.join(best, name), storage.join(staging, name))

    def finish() -> str:
        if new is None:
            return ""
        needs_vocabulary = config.features.needs_vocabulary
        vocabulary = storage.join(config.paths.dataset, VOCABULARY) if needs_vocabulary else None
        uri = directory.publish(
            new.version,
            new.info,
            new.model,
            config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
            metrics=new.facts.metrics,
            history=state.history.model_dump(mode="json"),
            vocabulary=vocabulary,
        )
        storage.delete(best)
        return uri

    cluster.together(lambda: told(what, copy_shards), "best.copy")
    return cluster.text_from_first(
        cluster.together(lambda: told(what, finish), "best.publish"), "best.published"
    )


def metrics_at(version: str) -> dict[str, float | None]:
    """Returns the validation metrics of a model directory."""
    uri = storage.join(version, METRICS_NAME)
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


def _published(root: str) -> str:
    """Returns the newest version. Raises InputError where it was deleted, wholly or in part."""
    try:
        version = directory.find_model(root)
        info = directory.read_info(version)
        names = [shards.shard_name(shard, info.num_shards) for shard in range(info.num_shards)]
        for name in (DENSE_NAME, METRICS_NAME, *names):
            if not storage.exists(storage.join(version, name)):
                raise IncompleteError(f"{version} lacks {name}")
    except (IncompleteError, InputError) as error:
        raise InputError(
            f"this run was trained and published, but its model was deleted, wholly or in part ({error}): "
            "train.resume=false trains it again"
        ) from error
    return version
