"""A whole training run: epochs, validation, early stopping, checkpoints, and the model that comes of it."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.contracts.manifest import (
    Manifest,
    PartitionCounts,
    require_carried,
    require_known_labels,
    require_same_spec,
    require_same_tasks,
)
from esmm_spark.contracts.schemas.records import EpochRecord
from esmm_spark.contracts.selection import default_validation, select
from esmm_spark.feed.batch import Batch
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import EpochPlan, require_row_groups, row_groups_of
from esmm_spark.feed.reader import open_feed
from esmm_spark.files.examples_file import check_files
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.model.directory import read_info
from esmm_spark.runtime.activity import Kind, doing
from esmm_spark.runtime.run_notes import stage, this_run
from esmm_spark.training import best, checkpoint
from esmm_spark.training.build import build_trainer
from esmm_spark.training.folders import ModelLease, model_lease
from esmm_spark.training.loop import StoppedError, Trainer
from esmm_spark.training.optimization.schedule import require_warm
from esmm_spark.training.ranks.agreement import require_agreement
from esmm_spark.training.ranks.cluster import Cluster, open_cluster
from esmm_spark.training.ranks.launch import first_rank_speaks
from esmm_spark.training.ranks.seen import sum_seen
from esmm_spark.training.resume import first_position
from esmm_spark.training.summary import metrics_line
from esmm_spark.training.tracking.mlflow_run import report_run, require_mlflow

# A process that ends at a signal's request says so by 128 + its number.
SIGTERM_EXIT_CODE = 128 + signal.SIGTERM


def train(config: Config) -> str | None:
    """Trains the model of `config` to its end, from its newest checkpoint if there is one.

    Returns:
        On the first rank, what to tell the user; None on the others.

    Raises:
        UserError: the dataset or a checkpoint can't be used, another run trains there, see `errors`.
        CountMismatchError: an epoch did not see every impression once.
        NonFiniteLossError: the loss became NaN or infinite.
        RankFailedError: another rank ended.
        SystemExit: with code 143 after SIGTERM, once a checkpoint is written.
    """
    dataset = config.paths.dataset
    with first_rank_speaks():
        require_mlflow(config)
        manifest = read_manifest(dataset)
        require_same_spec(config.features, "the config", manifest.feature_spec, f"dataset {dataset}")
        require_same_tasks(config.tasks, "the config", manifest.tasks, f"dataset {dataset}")
        require_carried(config.trained.carry, manifest.carry, f"dataset {dataset}")
        counts = select(manifest, config.data.train, dataset)
        require_known_labels(config.tasks, counts, config.data.train)
        require_warm(config.train, counts.impressions)
        this_run().counted(rows_in=counts.impressions)
    with open_cluster(config.train) as cluster:
        require_agreement(config, counts, cluster)
        cluster.together(lambda: require_row_groups(counts, cluster.num_ranks, config), "start")
        with model_lease(config.paths.model, cluster) as holder:
            return _Run(config, manifest, cluster, holder).fit()


class _Run:
    """One rank's part of a run."""

    def __init__(self, config: Config, manifest: Manifest, cluster: Cluster, holder: ModelLease) -> None:
        self.config, self.manifest, self.cluster = config, manifest, cluster
        self.holder = holder
        dataset, data = config.paths.dataset, config.data
        self.train_counts = select(manifest, data.train, dataset)
        self.validation = data.validation or default_validation(manifest, data.train)
        self.validation_counts = select(manifest, self.validation, dataset) if self.validation else None
        self.state, self.resumed_from = first_position(config, manifest, cluster)
        cluster.together(self._check_all_files, "resume.data")

    def _check_all_files(self) -> None:
        """Raises UserError if a finished run's data isn't what preprocess wrote; other runs read it all."""
        if self.state.finished and self.cluster.is_first:
            dataset = self.config.paths.dataset
            check_files(dataset, self.train_counts)
            if self.validation_counts is not None:
                check_files(dataset, self.validation_counts)

    def fit(self) -> str | None:
        """Trains to the end and publishes the best model."""
        if self.state.finished:
            return self._publish(already=True)
        with stage("build the model"):
            trainer = build_trainer(self.config, self.cluster)
        self.cluster.together(lambda: self._restore(trainer), "restore")
        with trainer.log, _sigterm(trainer):
            try:
                self._epochs(trainer)
            except StoppedError:
                raise self._stopped(trainer) from None
            finally:
                trainer.progress.close()
        return self._publish(already=False)

    def _restore(self, trainer: Trainer) -> None:
        """Puts the parameters of the checkpoint, if there is one, in place, and says where the run stands."""
        trainer.last_checkpoint = self.resumed_from
        if self.resumed_from is not None:
            checkpoint.load_checkpoint(
                self.resumed_from, self.state, trainer.arena, trainer.model, trainer.optimizer
            )
            trainer.progress.message(
                f"resuming{self._run_name} at epoch {self.state.epoch + 1}, step {self.state.next_step} "
                f"from {self.resumed_from}"
            )

    @property
    def _run_name(self) -> str:
        """` run 2` where the folder has seen several runs, ` run 2026-11-23` where it has a name."""
        name = self.state.run_id or (str(self.state.run_number) if self.state.run_number > 1 else "")
        return f" run {name}" if name else ""

    def _epochs(self, trainer: Trainer) -> None:
        train, state = self.config.train, self.state
        while not state.finished:
            whole = self._train_epoch(trainer)
            self._validate(trainer)
            if whole:
                state.epoch += 1
                state.next_step = state.seen_impressions = state.seen_hash_sum = 0
            out_of_patience = 0 < train.early_stopping_epochs <= state.epochs_without_gain
            state.finished = not whole or out_of_patience or state.epoch >= train.epochs or self._at_limit()
            self._checkpoint(trainer)

    def _at_limit(self) -> bool:
        limit = self.config.train.max_steps
        return limit is not None and self.state.global_step >= limit

    def _train_epoch(self, trainer: Trainer) -> bool:
        """Trains the rest of the epoch; returns whether it came to its end, and not to train.max_steps."""
        state, every = self.state, self.config.train.checkpoint_every_steps
        plan = self._plan(self.train_counts, state.epoch, shuffle=True)
        name = f"epoch {state.epoch + 1}/{self.config.train.epochs}"
        trainer.progress.start_epoch(state.epoch, self.config.train.epochs, plan.num_steps, state.next_step)

        def after_step() -> None:
            if every and state.global_step % every == 0 and state.next_step < plan.num_steps:
                self._checkpoint(trainer)

        first = state.next_step
        with stage(name), self._batches(self.config.trained, self.train_counts, plan, first) as batches:
            trainer.train_epoch(batches, plan, state, self.train_counts, after_step)
        return state.next_step == plan.num_steps

    def _validate(self, trainer: Trainer) -> None:
        state = self.state
        trainer.average_buffers()
        trainer.require_finite(state)
        metrics: dict[str, float | None] = {}
        if self.validation and self.validation_counts and self.validation_counts.impressions:
            plan = self._plan(self.validation_counts, epoch=0, shuffle=False)
            # Metrics read no carried column.
            read = ImpressionColumns(self.config.tasks, {})
            with stage("validate"), self._batches(read, self.validation_counts, plan, 0) as batches:
                metrics = trainer.validate(batches, self.validation_counts)
            trainer.log.scalars(state.global_step, {f"validation/{name}": v for name, v in metrics.items()})
            epoch = f"epoch {state.epoch + 1}/{self.config.train.epochs}"
            trainer.progress.message(f"{epoch} validation: {self._metrics_line(metrics)}")
        state.history.epochs.append(EpochRecord(epoch=state.epoch, step=state.global_step, **metrics))
        auc = metrics.get(self.config.best_metric)
        # Without a validation AUC there is no better or worse: the last epoch's model is the one to keep.
        if auc is None or state.best_auc is None or auc > state.best_auc:
            state.best_auc, state.epochs_without_gain = auc, 0
            best.write_best(self.holder, state, metrics, trainer.arena, trainer.model, self.cluster)
        else:
            state.epochs_without_gain += 1

    def _publish(self, already: bool) -> str | None:
        with stage("publish the model"):
            uri = best.publish_best(self.holder, self.config, self.state, self.cluster, self.manifest.fitted)
        if not self.cluster.is_first:
            return None
        if already:
            other = "train.resume=false" if self.config.train.run_id is None else "another train.run_id"
            return f"already trained: model {uri}; {other} starts over"
        metrics = best.metrics_at(uri)
        report_run(self.config, uri, metrics)
        steps, trained = read_info(uri).step, self.state.global_step
        after = f"{steps} steps" if steps == trained else f"{steps} of {trained} steps, the best epoch's end"
        return f"model {uri} after {after}, validation: {self._metrics_line(metrics)}"

    def _metrics_line(self, metrics: Mapping[str, float | None]) -> str:
        return metrics_line(metrics, self.config.tasks, self.validation, self.validation_counts)

    def _stopped(self, trainer: Trainer) -> SystemExit:
        uri = self._checkpoint(trainer)
        trainer.progress.message(
            f"stopped by SIGTERM at epoch {self.state.epoch + 1}, step {self.state.next_step}; checkpoint "
            f"{uri}: the same command goes on from there"
        )
        return SystemExit(SIGTERM_EXIT_CODE)

    def _checkpoint(self, trainer: Trainer) -> str:
        """Writes a checkpoint of the state summed over ranks; this rank keeps its own share."""
        trainer.average_buffers()
        trainer.require_finite(self.state)
        impressions, hash_sum = sum_seen(self.cluster, self.state.seen_impressions, self.state.seen_hash_sum)
        summed = self.state.model_copy(update={"seen_impressions": impressions, "seen_hash_sum": hash_sum})
        with doing("writing a checkpoint", Kind.UNHURRIED), stage("write checkpoints"):
            trainer.last_checkpoint = checkpoint.write_checkpoint(
                self.holder,
                summed,
                trainer.arena,
                trainer.model,
                trainer.optimizer,
                self.cluster,
                self.config.train.keep_checkpoints,
            )
        return trainer.last_checkpoint

    def _plan(self, counts: PartitionCounts, epoch: int, shuffle: bool) -> EpochPlan:
        return EpochPlan(
            row_groups_of(counts),
            num_streams=self.state.num_streams,
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
            epoch=epoch,
            shuffle=shuffle,
        )

    @contextmanager
    def _batches(
        self, read: ImpressionColumns, counts: PartitionCounts, plan: EpochPlan, first_step: int
    ) -> Iterator[Iterator[Batch]]:
        feed = open_feed(
            self.config.paths.dataset,
            # Preprocess counts the labels that it keeps though they are unknown: others are damage.
            Layout(self.config.features, read, unknown_labels=bool(counts.unknown)),
            plan,
            self.cluster.rank,
            self.cluster.num_ranks,
            first_step=first_step,
            reader_threads=self.config.train.reader_threads,
            reader=self.config.train.reader,
        )
        with ExitStack() as stack:
            yield self.cluster.together(lambda: stack.enter_context(feed), "feed")


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
