"""The model directory: written by the ranks together, read by the scorer.

docs/architecture.md shows its files. Writing, on R ranks:

    info = new_version(root, config.model, spec, esmm, step=..., num_shards=R)   # rank 0
    new = begin_version(root, info, lease)                                       # rank 0, then broadcast
    write_shard(new.folder, arena.local_rows(), rank, R)                         # every rank, then a barrier
    publish(new, info, esmm, config_yaml=..., metrics=..., history=...)          # rank 0

Reading:

    uri = find_model(root)
    info, local = read_info(uri), localize(uri)
    esmm, embedding = load_dense(local, info), ServingEmbedding(open_rows(local, info))
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from esmm_spark.contracts.errors import IncompleteError, InputError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.fitted import FittedNumbers, digest_of_fitted
from esmm_spark.contracts.objective import LISTED
from esmm_spark.contracts.schemas.layout import (
    CONFIG_NAME,
    DENSE_NAME,
    HISTORY_NAME,
    METRICS_NAME,
    MODEL_NAME,
    VERSIONS,
    VOCABULARY,
)
from esmm_spark.contracts.schemas.model_info import VERSION_PATTERN, ModelInfo
from esmm_spark.contracts.train_config import Model
from esmm_spark.files import storage
from esmm_spark.files.lease import Lease
from esmm_spark.files.records import read_record
from esmm_spark.files.replacing import Replacement, begin
from esmm_spark.files.tensor_file import read_tensors, tensor_bytes
from esmm_spark.model.embedding.sharding import ShardedRows
from esmm_spark.model.esmm import Esmm, build_esmm
from esmm_spark.model.shards import open_shards, shard_name

_NOTHING_FITTED: FittedNumbers = {}
_TRAIN = "run esmm_spark/train.py"
# What parameters were called in models of before, which had two towers.
_FORMER_NAMES = {"ctr_tower.": "towers.0.", "cvr_tower.": "towers.1."}


def new_version(
    root: str,
    model: Model,
    spec: FeatureSpec,
    esmm: Esmm,
    *,
    step: int,
    num_shards: int,
    fitted: FittedNumbers = _NOTHING_FITTED,
) -> ModelInfo:
    """Returns the info of the next version under `root`.

    Only rank 0 calls it, while its run holds the lease on `root`. The version is the next sequence number and
    8 hex digits of a hash over the dense parameters, the spec, what was fitted for it, tasks, losses, the
    model section and the step: no clock, so a repeated run has the same version. What a killed run left
    half-written under `root` is removed.
    """
    versions = storage.join(root, VERSIONS)
    for name in storage.list_directories(versions):
        if name.startswith("."):
            storage.delete(storage.join(versions, name))
    sequence = 1 + max((int(name.split("-")[0]) for name in _version_names(versions)), default=0)
    losses = list(esmm.objective.terms) if esmm.objective.name == LISTED else []
    sections = [model.model_dump(mode="json"), [term.model_dump(mode="json") for term in losses]]
    tasks = esmm.objective.tasks
    content = [
        spec.digest,
        tasks.described(),
        sections,
        step,
        *([digest_of_fitted(fitted)] if fitted else []),
    ]
    identity = json.dumps(content, sort_keys=True).encode()
    digest = hashlib.sha256(identity + tensor_bytes(_parameters(esmm))).hexdigest()[:8]
    return ModelInfo(
        model_version=f"{sequence:06d}-{digest}",
        feature_spec=spec,
        feature_spec_digest=spec.digest,
        fitted=dict(fitted),
        tasks=tasks,
        losses=losses,
        model=model,
        num_shards=num_shards,
        step=step,
    )


def version_uri(root: str, info: ModelInfo) -> str:
    """Returns the URI of the version under the models folder `root`."""
    return storage.join(root, VERSIONS, info.model_version)


def begin_version(root: str, info: ModelInfo, lease: Lease) -> Replacement:
    """Returns the folder in which the version is written until `publish`; rank 0 calls it."""
    return begin(version_uri(root, info), "paths.model", (), lease)


def write_dense(directory: str, esmm: Esmm) -> None:
    """Writes the dense parameters into the folder `directory`."""
    storage.write_bytes(storage.join(directory, DENSE_NAME), tensor_bytes(_parameters(esmm)))


def publish(
    new: Replacement,
    info: ModelInfo,
    esmm: Esmm,
    *,
    config_yaml: str,
    metrics: Mapping[str, Any],
    history: Mapping[str, Any],
    vocabulary: str | None = None,
) -> str:
    """Completes the version and returns its URI. Rank 0 calls it once all ranks have written their shards.

    Args:
        new: from `begin_version`.
        info: from `new_version`.
        esmm: the dense part, unchanged since `new_version`.
        config_yaml: the whole config of the run.
        metrics: validation metrics.
        history: `{"steps": [...], "epochs": [...]}` as docs/architecture.md shows it.
        vocabulary: URI of the dataset's vocabulary folder, if the spec needs one.

    Raises:
        IncompleteError: a shard is missing; what was there before stays.
    """
    staged = new.folder
    shards = [shard_name(rank, info.num_shards) for rank in range(info.num_shards)]
    for rank in range(info.num_shards):
        if not storage.exists(storage.join(staged, shard_name(rank, info.num_shards))):
            raise IncompleteError(
                f"{staged} lacks {shard_name(rank, info.num_shards)}: rank {rank} wrote none"
            )
    write_dense(staged, esmm)
    storage.write_text(storage.join(staged, CONFIG_NAME), config_yaml)
    for name, content in ((METRICS_NAME, metrics), (HISTORY_NAME, history)):
        storage.write_text(storage.join(staged, name), json.dumps(content, indent=1) + "\n")
    if vocabulary is not None:
        storage.copy_folder(vocabulary, storage.join(staged, VOCABULARY))
    storage.write_text(storage.join(staged, MODEL_NAME), info.model_dump_json(indent=1) + "\n")
    words = [f"{VOCABULARY}/{name}" for name, _ in storage.list_files(storage.join(staged, VOCABULARY))]
    new.files = [MODEL_NAME, DENSE_NAME, CONFIG_NAME, METRICS_NAME, HISTORY_NAME, *shards, *words]
    new.publish()
    return new.target


def find_model(root_or_version: str) -> str:
    """Returns the URI of a complete version: the newest under a models folder, or the given version itself.

    Raises:
        InputError: no model there.
        IncompleteError: the version, or every version of the folder, is half-written.
        UnsafeFileError: the version carries a pickle.
    """
    found = root_or_version.rstrip("/")
    if not storage.exists(storage.join(found, MODEL_NAME)) and not storage.is_complete(found):
        versions = storage.join(found, VERSIONS)
        names = storage.list_directories(versions)
        complete = [n for n in _version_names(versions) if storage.is_complete(storage.join(versions, n))]
        if names and not complete:
            raise IncompleteError(
                f"no version in {versions} was written to its end ({', '.join(names)}): {_TRAIN}"
            )
        if not complete:
            raise InputError(f"no model at {root_or_version}: {_TRAIN}")
        found = storage.join(versions, max(complete, key=lambda name: (int(name.split("-")[0]), name)))
    storage.require_complete(found, "model", _TRAIN)
    storage.refuse_pickles(found, "model")
    return found


def read_info(uri: str) -> ModelInfo:
    """Returns what model.json of the version at `uri` says.

    Raises:
        InputError: no model.json there, or it can't be read, or another format version.
        IncompleteError: the version is half-written.
        UnsafeFileError: it carries a pickle.
    """
    storage.require_complete(uri, "model", _TRAIN)
    storage.refuse_pickles(uri, "model")
    return read_record(storage.join(uri, MODEL_NAME), ModelInfo, "train again")


def load_dense(uri: str, info: ModelInfo) -> Esmm:
    """Returns the version's dense part in evaluation mode, on the CPU.

    Raises:
        InputError: dense.safetensors is missing, truncated, corrupt or of another network.
        ConfigError: the model's network can't be imported here.
    """
    esmm = build_esmm(info.model, info.feature_spec, info.objective)
    load_parameters(esmm, storage.join(uri, DENSE_NAME))
    return esmm.eval()


def load_parameters(esmm: Esmm, uri: str) -> None:
    """Overwrites the dense parameters with those of the file at `uri`. Raises InputError as `load_dense`."""
    found = {current_name(name): tensor for name, tensor in read_tensors(uri).items()}
    expected = esmm.state_dict()
    shapes, wanted = ({k: tuple(t.shape) for k, t in tensors.items()} for tensors in (found, expected))
    if shapes != wanted:
        name = next(n for n in [*wanted, *shapes] if shapes.get(n) != wanted.get(n))
        raise InputError(
            f"{uri}: parameter {name} has shape {shapes.get(name)}, the model wants {wanted.get(name)}: "
            "the network's code or options changed since it was trained"
        )
    esmm.load_state_dict(found)


def current_name(name: str) -> str:
    """Returns what a parameter is called now that may stem from a model of before."""
    for former, current in _FORMER_NAMES.items():
        if name.startswith(former):
            return current + name.removeprefix(former)
    return name


def open_rows(local: str, info: ModelInfo) -> ShardedRows:
    """Returns the embedding rows of the version in the local folder `local`, memory-mapped.

    Raises:
        InputError: a shard is missing, truncated or corrupt, or of another shape.
    """
    return open_shards(local, "rows", info.num_rows, (info.model.dim,), info.num_shards)


def _parameters(esmm: Esmm) -> dict[str, Tensor]:
    return dict(sorted(esmm.state_dict().items()))


def _version_names(versions: str) -> list[str]:
    return [name for name in storage.list_directories(versions) if VERSION_PATTERN.fullmatch(name)]
