"""A trainer from a config: the model, the embedding, the optimizer and the display of one rank."""

import logging
import os
from collections.abc import Mapping

import torch
from pyarrow import fs
from torch import Tensor

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, EsmmSparkError
from esmm_spark.contracts.schemas.layout import TENSORBOARD
from esmm_spark.files import filesystems, storage
from esmm_spark.model.embedding.embedded import EmbeddedBatch, ValueSequence
from esmm_spark.model.esmm import Esmm, build_arena, build_esmm
from esmm_spark.model.networks.registry import BUILT_IN
from esmm_spark.runtime.memory import keep_freed_memory
from esmm_spark.runtime.own_code import failure
from esmm_spark.training.kernels_line import kernels_line
from esmm_spark.training.loop import Trainer
from esmm_spark.training.need import require_memory
from esmm_spark.training.optimization.dense import dense_optimizer
from esmm_spark.training.progress import TensorBoardLog, progress_for
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.ranks.gradients import GradientSum

_log = logging.getLogger(__name__)

# What tensor files hold.
_KEPT = (torch.float64, torch.float32, torch.int64, torch.int32, torch.uint8)


def build_trainer(config: Config, cluster: Cluster) -> Trainer:
    """Returns this rank's trainer, its parameters as `train.seed` draws them. All ranks call this together.

    Raises:
        ConfigError: CUDA is asked for and there is none, or `model.network` can't be built or doesn't give a
            logit for each impression.
    """
    device = cluster.together(lambda: _device(config.train.device, cluster), "device")
    # Both are settings of a thread: this one trains, `together` works in another.
    torch.set_num_threads(config.train.threads or max(1, len(os.sched_getaffinity(0)) // cluster.local_ranks))
    keep_freed_memory()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    trainer = cluster.together(lambda: _build(config, cluster, device), "build")
    cluster.share_parameters(trainer.model)
    _log.info(kernels_line(trainer.model, trainer.arena, cluster, config.train.bf16))
    return trainer


def _build(config: Config, cluster: Cluster, device: torch.device) -> Trainer:
    train = config.train
    require_memory(config, cluster, device)
    torch.manual_seed(train.seed % 2**63)
    model = build_esmm(config.model, config.features, config.objective).to(device)
    _try(model, config, device)
    arena = build_arena(config, config.features, device, cluster.collectives)
    return Trainer(
        config=config,
        cluster=cluster,
        device=device,
        arena=arena,
        model=model,
        optimizer=dense_optimizer(model, train),
        gradients=GradientSum(model, cluster),
        progress=progress_for(cluster.is_first),
        log=TensorBoardLog(_log_folder(config) if cluster.is_first else None),
    )


def _log_folder(config: Config) -> str | None:
    """Returns where TensorBoard's logs go, or None: its writer can only append to local files."""
    filesystem, root = filesystems.filesystem_of(config.paths.model)
    is_local = isinstance(filesystem, fs.LocalFileSystem)
    return storage.join(root, TENSORBOARD) if config.train.tensorboard and is_local else None


def _try(model: Esmm, config: Config, device: torch.device) -> None:
    """Runs the model on a few impressions, so that a wrong network fails at once, with one line.

    Raises:
        ConfigError: the network fails, for scoring or in a step of training, or has parameters that can't be
            kept in a file.
    """
    spec, width = config.features, config.model.dim * config.objective.num_embeddings
    mask = torch.tensor([[True, False], [True, True]], device=device)
    inputs = EmbeddedBatch(
        context=torch.zeros(2, len(spec.pooled_context_fields), width, device=device),
        impression=torch.zeros(3, len(spec.impression_fields), width, device=device),
        group_sizes=torch.tensor([1, 2], device=device),
        sequences=tuple(
            ValueSequence(torch.zeros(2, 2, width, device=device), mask) for _ in spec.sequence_fields
        ),
    )
    labels = torch.zeros(len(config.tasks.names), 3, device=device)
    try:
        with torch.no_grad():
            model.eval()(*inputs)
        _require_parameters(model, config.model.network)
        carried = dict.fromkeys(config.trained.carry, torch.ones(3, device=device, dtype=torch.float64))
        if not config.objective.terms:
            _try_loss(model, labels, carried)
        if config.model.network not in BUILT_IN or not config.objective.terms:
            _try_to_train(model, inputs, labels, carried)
    except EsmmSparkError:
        raise
    except Exception as error:
        raise ConfigError(
            f"model.network {config.model.network} fails on context {_shape(inputs.context)}, impression "
            f"{_shape(inputs.impression)}, group_index [0, 1, 1], "
            f"{'sequences [2, 2, dim], ' if inputs.sequences else ''}dim = {config.model.dim}: "
            f"{failure(error)}"
        ) from error


def _shape(fields: Tensor) -> str:
    return f"[{fields.shape[0]}, {fields.shape[1]}, dim]"


def _require_parameters(model: Esmm, network: str) -> None:
    """Raises ConfigError if there is nothing to train, or something that can't be kept in a file."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"model.network {network} has no parameter to train")
    for name, tensor in model.state_dict().items():
        if tensor.dtype not in _KEPT:
            raise ConfigError(
                f"model.network {network}: {name} is of {tensor.dtype}, which a model's files can't hold: "
                f"allowed are {', '.join(str(dtype).removeprefix('torch.') for dtype in _KEPT)}"
            )


def _try_loss(model: Esmm, labels: Tensor, carried: Mapping[str, Tensor]) -> None:
    """Raises ConfigError if a loss of one's own fails on a few logits."""
    logits = torch.zeros(len(model.objective.heads), labels.shape[1], device=labels.device)
    try:
        model.loss(logits, labels, carried)
    except EsmmSparkError:
        raise
    except Exception as error:
        raise ConfigError(
            f"model.objective {model.objective.name} fails on logits {list(logits.shape)}, labels "
            f"{list(labels.shape)}, carried {', '.join(carried) or 'nothing'}: {failure(error)}"
        ) from error


def _try_to_train(model: Esmm, inputs: EmbeddedBatch, labels: Tensor, carried: Mapping[str, Tensor]) -> None:
    """Runs forward and backward of a training step, not the optimizer's: nothing is changed by it."""
    before = [buffer.clone() for buffer in model.buffers()]
    model.train()
    for embedded in (inputs.context, inputs.impression, *(values for values, _ in inputs.sequences)):
        embedded.requires_grad_()
    model.training_loss(inputs, labels, 1.0, carried).backward()
    model.zero_grad()
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)


def _device(wanted: str, cluster: Cluster) -> torch.device:
    """Returns this rank's device. Raises ConfigError where CUDA is asked for and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.device = 'cuda', but torch finds no CUDA device: use train.device=cpu or auto"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", cluster.local_rank % torch.cuda.device_count())
