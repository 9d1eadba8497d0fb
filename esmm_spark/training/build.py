"""A trainer from a config: the model, the embedding, the optimizer and the display of one rank."""

import os

import torch
from pyarrow import fs

from esmm_spark import storage
from esmm_spark.config import Config
from esmm_spark.errors import ConfigError
from esmm_spark.memory import keep_freed_memory
from esmm_spark.model.esmm import Esmm, build_arena, build_esmm, num_embeddings
from esmm_spark.training.cluster import Cluster
from esmm_spark.training.folders import TENSORBOARD
from esmm_spark.training.loop import Trainer
from esmm_spark.training.progress import TensorBoardLog, progress_for


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
    named = dict(trainer.model.named_parameters())
    trainer.optimizer = cluster.distributed_optimizer(trainer.optimizer, named)
    return trainer


def _build(config: Config, cluster: Cluster, device: torch.device) -> Trainer:
    train = config.train
    torch.manual_seed(train.seed % 2**63)
    model = build_esmm(config.model, config.features).to(device)
    _try(model, config, device)
    arena = build_arena(
        config, config.features, rank=cluster.rank, num_ranks=cluster.num_ranks, device=device
    )
    adam = torch.optim.Adam(model.parameters(), lr=train.learning_rate, fused=True)
    return Trainer(
        config=config,
        cluster=cluster,
        device=device,
        arena=arena,
        model=model,
        optimizer=adam,
        progress=progress_for(cluster.is_first),
        log=TensorBoardLog(_log_folder(config) if cluster.is_first else None),
    )


def _log_folder(config: Config) -> str | None:
    """Returns where TensorBoard's logs go, or None: its writer can only append to local files."""
    filesystem, root = storage.filesystem_of(config.paths.model)
    is_local = isinstance(filesystem, fs.LocalFileSystem)
    return storage.join(root, TENSORBOARD) if config.train.tensorboard and is_local else None


@torch.no_grad()
def _try(model: Esmm, config: Config, device: torch.device) -> None:
    """Puts two impressions of one group through the model, so that a wrong network is told at once."""
    spec, width = config.features, config.model.dim * num_embeddings(config.model)
    context = torch.zeros(1, len(spec.context_fields), width, device=device)
    impression = torch.zeros(2, len(spec.impression_fields), width, device=device)
    model.eval()(context, impression, torch.tensor([2], device=device))


def _device(wanted: str, cluster: Cluster) -> torch.device:
    """Returns this rank's device. Raises ConfigError where CUDA is asked for and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.device = 'cuda', but torch finds no CUDA device: use train.device=cpu or auto"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", cluster.local_rank % torch.cuda.device_count())
