"""Finds where a run begins: at its start, or at its newest checkpoint.

The runs of a models folder are counted, and a checkpoint says of which run it is. Which one goes on:

    train.run_id given     the run of that name; if there is none, a new run
    train.resume           the newest run; if there is none, a new run
    train.resume=false     a new run; but where the newest run was itself begun by train.resume=false, on the
                           same data, and has not been published, that one: a scheduler's second try

A new run leaves the checkpoints of others alone until it has written one of its own (checkpoint.py).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Train
from esmm_spark.feed.plan import default_num_streams
from esmm_spark.training import checkpoint
from esmm_spark.training.best import is_unpublished
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.state import TrainState
from esmm_spark.training.trained_data import DataDigests, changes_of_data, digests_of_data

_TRAIN_KEYS = {
    "batch_size",
    "learning_rate",
    "embedding_learning_rate",
    "learning_rate_decay",
    "embedding_eps",
    "seed",
    "bf16",
}
# Keys that came later: only what is set counts, so that a run of before, which had none of them, goes on.
_LATER_TRAIN_KEYS = {
    "weight_decay",
    "gradient_clip_norm",
    "warmup_steps",
    "embedding_optimizer",
    "embedding_l2",
}
_DEFAULTED = {f"train.{key}" for key in _LATER_TRAIN_KEYS}
_DIFFERENCES_SHOWN = 4


def run_content(config: Config) -> dict[str, Any]:
    """Returns all that decides a run's result but its data, the number of its ranks and its length, by key.

    With `learning_rate_decay` its length, too: how fast the rates fall depends on it.
    """
    train = {f"train.{key}": value for key, value in config.train.model_dump(include=_TRAIN_KEYS).items()}
    later = config.train.model_dump(include=_LATER_TRAIN_KEYS, exclude_defaults=True)
    train |= {f"train.{key}": value for key, value in later.items()}
    if config.train.learning_rate_decay != "none":
        train["train.epochs"] = config.train.epochs
    # Only what is set, so that a run of before, which had neither tasks nor losses, goes on.
    model = {
        f"model.{key}": value
        for key, value in config.model.model_dump(mode="json", exclude_none=True).items()
        if not (key == "extra_heads" and value == 0)
    }
    if config.tasks != DEFAULT_TASKS:
        model["tasks"] = config.tasks.described()
    if config.losses:
        model["losses"] = [term.model_dump(mode="json", exclude_defaults=True) for term in config.losses]
    return {"features (digest)": config.features.digest, **model, **train}


def run_digest(content: Mapping[str, Any]) -> str:
    """Returns 16 hex digits of what `run_content` gives: only a run of the same digest goes on."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns what differs between two flat contents: `["train.epochs was 2, is 3"]`."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    told = [f"{key} was {_told(old, key)}, is {_told(new, key)}" for key in keys]
    more = len(told) - _DIFFERENCES_SHOWN
    return told[:_DIFFERENCES_SHOWN] + ([f"and {more} more differ"] if more > 0 else [])


def _told(content: Mapping[str, Any], key: str) -> Any:
    """Returns a key's value in a flat content, or what it stands for where it isn't set."""
    default = Train.model_fields[key.removeprefix("train.")].default if key in _DEFAULTED else None
    return content.get(key, "not set" if default is None else default)


def first_position(config: Config, manifest: Manifest, cluster: Cluster) -> tuple[TrainState, str | None]:
    """Returns where the run begins and the URI of the checkpoint that it goes on from, None for a new run.

    All ranks call this together. The counts of what the epoch has seen so far are on the first rank.

    Args:
        config: the whole config.
        manifest: of the dataset.
        cluster: the ranks.

    Raises:
        ConfigError: the checkpoint to go on from is of a run with another result, or on other data.
        InputError: it can't be read.
    """
    root = config.paths.model
    content, data = run_content(config), digests_of_data(config, manifest)
    choice = cluster.together(
        lambda: _choose(config, content, data) if cluster.is_first else (-1, 1), "resume.find"
    )
    step, number = (cluster.from_first(value, "resume.step") for value in choice)
    if step < 0:
        train = config.train
        new = TrainState(
            run_digest=run_digest(content),
            run_content=content,
            data=data,
            run_number=number,
            run_id=train.run_id,
            started_over=not train.resume and train.run_id is None,
            num_streams=train.num_streams or default_num_streams(cluster.num_ranks),
        )
        return new, None
    found = cluster.together(lambda: checkpoint.read_state(root, step), "resume.read")
    found.data = data
    if found.finished and _is_wanted_longer(found, config):
        found.finished = False
    if not cluster.is_first:
        found.seen_impressions = found.seen_hash_sum = 0
    return found, checkpoint.checkpoint_uri(root, step)


def _choose(config: Config, content: Mapping[str, Any], data: DataDigests) -> tuple[int, int]:
    """Returns the step of the checkpoint to go on from, -1 for none, and the number of a run begun now."""
    root, train = config.paths.model, config.train
    states = []
    for step in checkpoint.complete_steps(root):
        try:
            states.append(checkpoint.read_state(root, step))
        except InputError:
            if train.resume or train.run_id is not None:
                raise  # whoever starts over need not read it
    states.sort(key=lambda state: (state.run_number, state.global_step))
    number = 1 + max((state.run_number for state in states), default=0)
    if train.run_id is not None:
        states = [state for state in states if state.run_id == train.run_id]
    if not states:
        return -1, number
    newest = states[-1]
    problem = _problem(config, content, data, newest)
    if train.run_id is None and not train.resume:
        is_second_try = (
            newest.started_over
            and problem is None
            and (not newest.finished or is_unpublished(root, newest.run_number))
        )
        return (newest.global_step if is_second_try else -1), number
    if problem is not None:
        raise ConfigError(problem)
    return newest.global_step, number


def _problem(config: Config, content: Mapping[str, Any], data: DataDigests, found: TrainState) -> str | None:
    """Returns why a run can't go on from a checkpoint, None if it can."""
    train = config.train
    uri = checkpoint.checkpoint_uri(config.paths.model, found.global_step)
    start_over = "train.resume=false to start over" if train.run_id is None else "another train.run_id"
    remedy = f"set {start_over}, or another paths.model"
    if found.run_digest != run_digest(content):
        told = "; ".join(differences(found.run_content, content)) if found.run_content else ""
        told = told or "it was written by another version of esmm_spark"
        return f"checkpoint {uri} is of another run: {told}: {remedy}"
    changes = changes_of_data(found.data, data)
    if changes:
        return f"checkpoint {uri} had other data: {changes} in {config.paths.dataset}: {remedy}"
    if train.num_streams not in (None, found.num_streams):
        return (
            f"checkpoint {uri} has train.num_streams = {found.num_streams}, the config says "
            f"{train.num_streams}, which would change the batches: leave it out, or {remedy}"
        )
    return None


def _is_wanted_longer(found: TrainState, config: Config) -> bool:
    """Returns whether a finished run is asked for more than it has done."""
    train = config.train
    at_limit = train.max_steps is not None and found.global_step >= train.max_steps
    out_of_patience = 0 < train.early_stopping_epochs <= found.epochs_without_gain
    return train.epochs > found.epoch and not at_limit and not out_of_patience
