"""A whole training run: epochs, validation, early stopping, checkpoints, and the model that comes out of it."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from esmm_spark import storage
from esmm_spark.config import Config
from esmm_spark.errors import ConfigError
from esmm_spark.feed.plan import EpochPlan, default_num_streams, require_row_groups, row_groups_of
from esmm_spark.feed.reader import open_feed
from esmm_spark.manifest import Manifest, PartitionCounts, read_manifest, require_same_spec
from esmm_spark.model.esmm import build_arena, build_esmm
from esmm_spark.training import best, checkpoint
from esmm_spark.training.cluster import Cluster, open_cluster
from esmm_spark.training.folders import CHECKPOINTS
from esmm_spark.training.loop import StoppedError, Trainer
from esmm_spark.training.progress import TensorBoardLog, progress_for
from esmm_spark.training.state import EpochRecord, TrainState

TRAIN_PARTITION = "split=train"
VALIDATION_PARTITION = "split=validation"

# A process that ends at a signal's request says so by 128 + its number.
SIGTERM_EXIT_CODE = 128 + signal.SIGTERM


def train(config: Config) -> str | None:
    """Trains the model of `config` to its end, from its newest checkpoint if there is one.

    Returns:
        On the first rank, what to tell the user; None on the others.

    Raises:
        UserError: the dataset or a checkpoint can't be used, see `errors`.
        CountMismatchError: an epoch did not see every impression once.
        NonFiniteLossError: the loss became NaN or infinite.
        RankFailedError: another rank ended.
        SystemExit: with code 143 after SIGTERM, once a checkpoint is written.
    """
    manifest = read_manifest(config.paths.dataset)
    require_same_spec(config.features, "the config", manifest.feature_spec, f"dataset {config.paths.dataset}")
    with open_cluster(config.train.stall_timeout_s) as cluster:
        require_row_groups(
            manifest.partition(TRAIN_PARTITION, config.paths.dataset), cluster.num_ranks, config
        )
        return _Run(config, manifest, cluster).fit()


def run_digest(config: Config, manifest: Manifest) -> str:
    """Returns 16 hex digits of all that decides the result of a run but the number of its ranks and its
    length.

    A checkpoint is gone on from only by a run of the same digest.
    """
    train = config.train.model_dump(
        include={"batch_size", "learning_rate", "embedding_learning_rate", "embedding_eps", "seed", "bf16"}
    )
    data = manifest.partition(TRAIN_PARTITION, config.paths.dataset)
    content = [
        config.features.digest,
        config.model.model_dump(mode="json"),
        train,
        [data.impressions, data.group_hash_sum, [file.impressions for file in data.files]],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class _Run:
    """One rank's part of a run."""

    def __init__(self, config: Config, manifest: Manifest, cluster: Cluster) -> None:
        self.config, self.manifest, self.cluster = config, manifest, cluster
        self.root = config.paths.model
        self.train_counts = manifest.partition(TRAIN_PARTITION, config.paths.dataset)
        self.validation_counts = manifest.partitions.get(VALIDATION_PARTITION)
        self.state = TrainState(
            run_digest=run_digest(config, manifest),
            num_streams=config.train.num_streams or default_num_streams(cluster.num_ranks),
        )
        self.resumed_from = self._find_checkpoint()

    def fit(self) -> str | None:
        """Trains to the end and publishes the best model."""
        if self.state.finished:
            return self._publish(already=True)
        trainer = self._build()
        if self.resumed_from is not None:
            checkpoint.load_checkpoint(self.root, self.state, trainer.arena, trainer.model, trainer.optimizer)
            trainer.progress.message(
                f"resuming at epoch {self.state.epoch + 1}, step {self.state.next_step} from "
                f"{checkpoint.checkpoint_uri(self.root, self.resumed_from)}"
            )
        with trainer.log, _sigterm(trainer):
            try:
                self._epochs(trainer)
            except StoppedError:
                raise self._stopped(trainer) from None
            finally:
                trainer.progress.close()
        return self._publish(already=False)

    def _epochs(self, trainer: Trainer) -> None:
        train = self.config.train
        while not self.state.finished:
            self._train_epoch(trainer)
            self._validate(trainer)
            at_limit = train.max_steps is not None and self.state.global_step >= train.max_steps
            self.state.epoch += 1
            self.state.next_step = self.state.seen_impressions = self.state.seen_hash_sum = 0
            out_of_patience = 0 < train.early_stopping_epochs <= self.state.epochs_without_gain
            self.state.finished = at_limit or out_of_patience or self.state.epoch >= train.epochs
            self._checkpoint(trainer)

    def _train_epoch(self, trainer: Trainer) -> None:
        state, every = self.state, self.config.train.checkpoint_every_steps
        plan = self._plan(self.train_counts, state.epoch, shuffle=True)
        trainer.progress.start_epoch(state.epoch, self.config.train.epochs, plan.num_steps, state.next_step)

        def after_step() -> None:
            if every and state.global_step % every == 0 and state.next_step < plan.num_steps:
                self._checkpoint(trainer)

        with self._batches(TRAIN_PARTITION, plan, state.next_step) as batches:
            trainer.train_epoch(batches, plan, state, self.train_counts, after_step)

    def _validate(self, trainer: Trainer) -> None:
        state = self.state
        metrics: dict[str, float | None] = {}
        if self.validation_counts is not None and self.validation_counts.impressions:
            plan = self._plan(self.validation_counts, epoch=0, shuffle=False)
            with self._batches(VALIDATION_PARTITION, plan, 0) as batches:
                metrics = trainer.validate(batches, self.validation_counts)
            trainer.log.scalars(state.global_step, {f"validation/{name}": v for name, v in metrics.items()})
            trainer.progress.message(f"epoch {state.epoch + 1} validation: {_metrics_line(metrics)}")
        state.history.epochs.append(EpochRecord(epoch=state.epoch, step=state.global_step, **metrics))
        auc = metrics.get("ctcvr_auc")
        # Without a validation AUC there is no better or worse: the last epoch's model is the one to keep.
        if auc is None or state.best_ctcvr_auc is None or auc > state.best_ctcvr_auc:
            state.best_ctcvr_auc, state.epochs_without_gain = auc, 0
            best.write_best(self.root, state, metrics, trainer.arena, trainer.model, self.cluster)
        else:
            state.epochs_without_gain += 1

    def _publish(self, already: bool) -> str | None:
        uri = best.publish_best(self.root, self.config, self.state, self.cluster)
        if not self.cluster.is_first:
            return None
        if already:
            return f"already trained: model {uri}; train.resume=false starts over"
        metrics = _metrics_line(best.metrics_at(uri))
        return f"model {uri} after {self.state.global_step} steps, validation: {metrics}"

    def _stopped(self, trainer: Trainer) -> SystemExit:
        uri = self._checkpoint(trainer)
        trainer.progress.message(
            f"stopped by SIGTERM at epoch {self.state.epoch + 1}, step {self.state.next_step}; checkpoint {uri}: "
            "the same command goes on from there"
        )
        return SystemExit(SIGTERM_EXIT_CODE)

    def _checkpoint(self, trainer: Trainer) -> str:
        """Writes a checkpoint of the state summed over ranks; this rank keeps its own share."""
        impressions, hash_sum = trainer.sum_seen(self.state)
        summed = self.state.model_copy(update={"seen_impressions": impressions, "seen_hash_sum": hash_sum})
        return checkpoint.write_checkpoint(
            self.root,
            summed,
            trainer.arena,
            trainer.model,
            trainer.optimizer,
            self.cluster,
            self.config.train.keep_checkpoints,
        )

    def _find_checkpoint(self) -> int | None:
        """Takes over the position of the newest checkpoint and returns its step, if there is one to go on
        from.

        Raises:
            ConfigError: it is of a run with another result.
        """
        if not self.config.train.resume:
            if self.cluster.is_first:
                storage.delete(storage.join(self.root, CHECKPOINTS))
            self.cluster.barrier("resume.cleared")
            return None
        newest = max(checkpoint.complete_steps(self.root), default=-1) if self.cluster.is_first else -1
        newest = self.cluster.from_first(newest, "resume.step")
        if newest < 0:
            return None
        found = checkpoint.read_state(self.root, newest)
        if found.run_digest != self.state.run_digest:
            raise ConfigError(
                f"checkpoint {checkpoint.checkpoint_uri(self.root, newest)} is of another run ({found.run_digest}, this "
                f"one is {self.state.run_digest}: the data, the model section, or the train section's batch size, rates "
                "or seed differ): set train.resume=false to start over, or another paths.model"
            )
        # A finished run goes on only if it was asked for more epochs than it has done.
        if found.finished and self.config.train.epochs > found.epoch and not self._was_cut_short(found):
            found.finished = False
        if not self.cluster.is_first:
            found.seen_impressions = found.seen_hash_sum = 0
        self.state = found
        return newest

    def _was_cut_short(self, found: TrainState) -> bool:
        train = self.config.train
        at_limit = train.max_steps is not None and found.global_step >= train.max_steps
        return at_limit or 0 < train.early_stopping_epochs <= found.epochs_without_gain

    def _plan(self, counts: PartitionCounts, epoch: int, shuffle: bool) -> EpochPlan:
        return EpochPlan(
            row_groups_of(counts),
            num_streams=self.state.num_streams,
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
            epoch=epoch,
            shuffle=shuffle,
        )

    def _batches(self, partition: str, plan: EpochPlan, first_step: int):  # type: ignore[no-untyped-def]
        return open_feed(
            self.config.paths.dataset,
            partition,
            self.manifest,
            plan,
            self.cluster.rank,
            self.cluster.num_ranks,
            first_step=first_step,
            reader_threads=self.config.train.reader_threads,
        )

    def _build(self) -> Trainer:
        train, cluster = self.config.train, self.cluster
        torch.set_num_threads(train.threads or max(1, len(os.sched_getaffinity(0)) // cluster.local_ranks))
        device = _device(train.device, cluster)
        torch.manual_seed(train.seed)
        model = build_esmm(self.config.model, self.config.features).to(device)
        arena = build_arena(
            self.config, self.config.features, rank=cluster.rank, num_ranks=cluster.num_ranks, device=device
        )
        named = dict(model.named_parameters())
        for parameter in named.values():
            # A parameter that a network doesn't use has no gradient, and Horovod would wait for it.
            parameter.grad = torch.zeros_like(parameter)
        adam = torch.optim.Adam(named.values(), lr=train.learning_rate)
        wants_log = train.tensorboard and cluster.is_first
        log_folder = storage.join(self.root, "tensorboard") if wants_log else None
        return Trainer(
            config=self.config,
            cluster=cluster,
            device=device,
            arena=arena,
            model=model,
            optimizer=cluster.distributed_optimizer(adam, named),
            progress=progress_for(cluster.is_first),
            log=TensorBoardLog(log_folder),
        )


@contextmanager
def _sigterm(trainer: Trainer) -> Iterator[None]:
    """Lets SIGTERM ask `trainer` to stop after the step that it is in."""

    def request_stop(signum: int, frame: FrameType | None) -> None:
        trainer.stop_requested = True

    before = signal.signal(signal.SIGTERM, request_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _device(wanted: str, cluster: Cluster) -> torch.device:
    """Returns this rank's device. Raises ConfigError where CUDA is asked for and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.device = 'cuda', but torch finds no CUDA device: use train.device=cpu or auto"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", cluster.local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _metrics_line(metrics: dict[str, float | None]) -> str:
    names = {
        "ctr_auc": "CTR AUC",
        "cvr_auc": "CVR AUC on clicks",
        "ctcvr_auc": "CTCVR AUC",
        "ctr_calibration": "CTR calibration",
        "ctcvr_calibration": "CTCVR calibration",
    }
    known = [(title, metrics.get(name)) for name, title in names.items()]
    shown = [f"{title} {value:.4f}" for title, value in known if value is not None]
    return ", ".join(shown) or "none (the dataset has no validation partition)"
