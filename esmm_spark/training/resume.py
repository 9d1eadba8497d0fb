"""Where a run begins: at its start, or where its newest checkpoint stands."""

import hashlib
import json

from esmm_spark import storage
from esmm_spark.config import Config
from esmm_spark.errors import ConfigError
from esmm_spark.feed.plan import default_num_streams
from esmm_spark.manifest import PartitionCounts
from esmm_spark.training import checkpoint
from esmm_spark.training.cluster import Cluster
from esmm_spark.training.folders import CHECKPOINTS
from esmm_spark.training.state import TrainState


def run_digest(config: Config, data: PartitionCounts) -> str:
    """Returns 16 hex digits of all that decides a run's result but the number of its ranks and its length.

    Only a run of the same digest goes on from a checkpoint: with `learning_rate_decay`, of the same length.
    """
    train = config.train.model_dump(
        include={"batch_size", "learning_rate", "embedding_learning_rate", "embedding_eps", "seed", "bf16"}
    )
    if config.train.learning_rate_decay != "none":
        # How fast the rates fall depends on the length, too.
        train["decay_over_epochs"] = config.train.epochs
    content = [
        config.features.digest,
        config.model.model_dump(mode="json"),
        train,
        [data.impressions, data.group_hash_sum, [file.impressions for file in data.files]],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def first_position(config: Config, data: PartitionCounts, cluster: Cluster) -> tuple[TrainState, str | None]:
    """Returns where the run begins and the URI of the checkpoint that it goes on from, None for a new run.

    All ranks call this together. The counts of what the epoch has seen so far are on the first rank.

    Args:
        config: the whole config; with `train.resume` false, checkpoints that are there are deleted.
        data: the training partition.
        cluster: the ranks.

    Raises:
        ConfigError: the newest checkpoint is of a run with another result.
        InputError: it can't be read.
    """
    root, train = config.paths.model, config.train
    digest = run_digest(config, data)
    new = TrainState(
        run_digest=digest, num_streams=train.num_streams or default_num_streams(cluster.num_ranks)
    )

    def find() -> int:
        if not cluster.is_first:
            return -1
        if not train.resume:
            storage.delete(storage.join(root, CHECKPOINTS))
        return max(checkpoint.complete_steps(root), default=-1)

    newest = cluster.from_first(cluster.together(find, "resume.find"), "resume.step")
    if newest < 0:
        return new, None
    uri = checkpoint.checkpoint_uri(root, newest)
    found = cluster.together(lambda: _read_fitting(config, newest, digest), "resume.read")
    if found.finished and _is_wanted_longer(found, config):
        found.finished = False
    if not cluster.is_first:
        found.seen_impressions = found.seen_hash_sum = 0
    return found, uri


def _read_fitting(config: Config, step: int, digest: str) -> TrainState:
    """Returns the position of the checkpoint at `step`, if it is of a run like this. Raises ConfigError."""
    train = config.train
    uri = checkpoint.checkpoint_uri(config.paths.model, step)
    found = checkpoint.read_state(config.paths.model, step)
    remedy = "set train.resume=false to start over, or another paths.model"
    if found.run_digest != digest:
        raise ConfigError(
            f"checkpoint {uri} is of another run ({found.run_digest}, this one is {digest}: the data, the "
            f"model section, or the train section's batch size, rates, seed or bf16 differ): {remedy}"
        )
    if train.num_streams not in (None, found.num_streams):
        raise ConfigError(
            f"checkpoint {uri} has train.num_streams = {found.num_streams}, the config says "
            f"{train.num_streams}, which would change the batches: leave it out, or {remedy}"
        )
    return found


def _is_wanted_longer(found: TrainState, config: Config) -> bool:
    """Returns whether a finished run is asked for more than it has done."""
    train = config.train
    at_limit = train.max_steps is not None and found.global_step >= train.max_steps
    out_of_patience = 0 < train.early_stopping_epochs <= found.epochs_without_gain
    return train.epochs > found.epoch and not at_limit and not out_of_patience
