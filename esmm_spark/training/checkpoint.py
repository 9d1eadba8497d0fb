"""Checkpoints: the whole state of a run at a step, from which another number of ranks can go on.

    <paths.model>/checkpoints/step-00000120/
        _SUCCESS, state.json           TrainState
        dense.safetensors              parameters of the dense part
        optimizer.safetensors          Adam's moments, `<parameter>/<name>`
        embedding/shard-00000-of-00002.safetensors   tensors "rows" [local, dim] and what the optimizer
                                       keeps of a row: "accumulator" [local], or "first_moment" and
                                       "second_moment" [local, dim], or nothing

All ranks must see the same `paths.model`.
"""

import re

from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.schemas.layout import CHECKPOINTS, DENSE_NAME
from esmm_spark.files import seals, storage
from esmm_spark.files.local_copy import localize
from esmm_spark.files.tensor_file import read_tensors, write_tensors
from esmm_spark.model import directory, shards
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.esmm import Esmm
from esmm_spark.training.folders import BEST_PREFIX, ModelLease, best_name, write_folder
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.state import TrainState

_STATE = "state.json"
_OPTIMIZER = "optimizer.safetensors"
_STEP_NAME = re.compile(r"step-(\d{8,})")


def checkpoint_uri(root: str, global_step: int) -> str:
    """Returns where the checkpoint after `global_step` steps lies below the models' root."""
    return storage.join(root, CHECKPOINTS, f"step-{global_step:08d}")


def complete_steps(root: str) -> list[int]:
    """Returns the steps of the complete checkpoints below `root`, ascending."""
    folder = storage.join(root, CHECKPOINTS)
    steps = [
        int(match[1])
        for name in storage.list_directories(folder)
        if (match := _STEP_NAME.fullmatch(name)) and storage.is_complete(storage.join(folder, name))
    ]
    return sorted(steps)


def write_checkpoint(
    holder: ModelLease,
    state: TrainState,
    arena: EmbeddingArena,
    model: Esmm,
    optimizer: Optimizer,
    cluster: Cluster,
    keep: int,
) -> str:
    """Writes a checkpoint and deletes all but the run's `keep` newest; all ranks call this together.

    Args:
        holder: this run's right to write `paths.model`.
        state: the position, its counts summed over ranks.
        arena: this rank's rows.
        model: the dense part, alike on every rank.
        optimizer: the dense part's, alike on every rank.
        cluster: the ranks.
        keep: checkpoints of this run that stay. Those of other runs go: this run now has one of its own.
    """
    root = holder.root
    target = checkpoint_uri(root, state.global_step)

    def write_shard(staging: str) -> None:
        shards.write_shard(staging, arena.local_rows(), cluster.rank, cluster.num_ranks, arena.state())

    def write_rest(staging: str) -> None:
        directory.write_dense(staging, model)
        write_tensors(storage.join(staging, _OPTIMIZER), _optimizer_tensors(model, optimizer))
        summed = state.model_copy(update={"num_shards": cluster.num_ranks})
        storage.write_text(storage.join(staging, _STATE), summed.model_dump_json(indent=1))

    rest = (DENSE_NAME, _OPTIMIZER, _STATE)
    write_folder(target, write_shard, write_rest, rest, cluster, holder)
    # Together: an object store may take long to delete.
    cluster.together(lambda: _prune(root, state, keep) if cluster.is_first else None, "checkpoint.prune")
    return target


def _prune(root: str, state: TrainState, keep: int) -> None:
    """Deletes older checkpoints, all that is of other runs, and what ranks killed half-way left behind."""
    own = []
    for step in complete_steps(root):
        if step == state.global_step or _number_of(root, step) == state.run_number:
            own.append(step)
        else:
            storage.delete(checkpoint_uri(root, step))
    for step in own[:-keep]:
        storage.delete(checkpoint_uri(root, step))
    folder = storage.join(root, CHECKPOINTS)
    best = best_name(state.run_number)
    for name in storage.list_directories(folder):
        if name.startswith((".step-", f".{BEST_PREFIX}")) or (name.startswith(BEST_PREFIX) and name != best):
            storage.delete(storage.join(folder, name))


def _number_of(root: str, global_step: int) -> int | None:
    """Returns the number of the run that a checkpoint is of, None if it can't be read."""
    try:
        return read_state(root, global_step).run_number
    except InputError:
        return None


def read_state(root: str, global_step: int) -> TrainState:
    """Returns the position that a checkpoint holds. Raises InputError where it can't be read."""
    uri = storage.join(checkpoint_uri(root, global_step), _STATE)
    remedy = "delete that checkpoint, an older one will be used"
    try:
        return TrainState.model_validate_json(seals.read_sealed(uri, remedy))
    except ValidationError as error:
        raise InputError(f"{uri} is no state of a run: {remedy}") from error


def load_checkpoint(
    uri: str, state: TrainState, arena: EmbeddingArena, model: Esmm, optimizer: Optimizer
) -> None:
    """Puts the parameters of the checkpoint that `state` was read from into place.

    Args:
        uri: the checkpoint.
        state: what it holds; says how many shards it has, whatever the number of ranks now.
        arena: this rank's rows.
        model: the dense part.
        optimizer: the dense part's.

    Raises:
        InputError: a file is missing, truncated or of another model.
        UnsafeFileError: the checkpoint carries a pickle.
    """
    storage.refuse_pickles(uri, "checkpoint")
    directory.load_parameters(model, storage.join(uri, DENSE_NAME))
    _load_optimizer(read_tensors(storage.join(uri, _OPTIMIZER)), model, optimizer)
    local = localize(uri)
    # With as many ranks as there were, each reads its own shard alone.
    files = (state.num_shards, arena.rank if state.num_shards == arena.num_ranks else None)
    shapes = {"rows": (arena.dim,), **arena.optimizer.state_shapes(arena.dim)}
    parts = {
        name: shards.open_shards(local, name, arena.num_rows, shape, *files).of_rank(
            arena.rank, arena.num_ranks
        )
        for name, shape in shapes.items()
    }
    arena.load_local(parts.pop("rows"), parts)


def _optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def _load_optimizer(tensors: dict[str, Tensor], model: nn.Module, optimizer: Optimizer) -> None:
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, _, moment = key.rpartition("/")
        parameter = parameters[directory.current_name(name)]
        # The step count, too: fused Adam reads it where the parameter lies.
        optimizer.state[parameter][moment] = tensor.to(parameter.device, copy=True)
