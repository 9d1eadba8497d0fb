"""One step, one epoch and one validation pass, over all ranks.

Shapes: G groups, N impressions of this rank's share of the global batch; Fc, Fi fields; D dim.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import torch

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import NonFiniteLossError, UserError
from esmm_spark.contracts.manifest import PartitionCounts, wrapped_sum
from esmm_spark.feed.batch import Batch, batch_of
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import EpochPlan
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.batch import BatchLookup, embed_batch
from esmm_spark.model.esmm import Esmm
from esmm_spark.model.networks.dropout import draw_by
from esmm_spark.model.objectives.weight_means import divide_by, moved_means, weight_sums
from esmm_spark.runtime.activity import Kind, at, doing, waiting
from esmm_spark.training.curve import Curve
from esmm_spark.training.finite import non_finite_loss, not_finite
from esmm_spark.training.metrics import MetricSums, metrics_of
from esmm_spark.training.optimization.dense import step_clipped
from esmm_spark.training.optimization.schedule import learning_rate_factor
from esmm_spark.training.progress import Progress, TensorBoardLog
from esmm_spark.training.ranks.buffers import average_buffers
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.ranks.gradients import GradientSum
from esmm_spark.training.ranks.launch import FailedElsewhereError
from esmm_spark.training.ranks.seen import require_all_seen
from esmm_spark.training.seeding import impression_keys, seed_at
from esmm_spark.training.state import TrainState


class StoppedError(Exception):
    """Training was asked to stop (SIGTERM) and the ranks agreed on the step."""


@dataclass(frozen=True)
class _Started:
    """A batch whose look-up has started; where reading it failed, an empty one and the error."""

    batch: Batch
    problem: UserError | None
    lookup: BatchLookup


@dataclass
class Trainer:
    """The parameters of one rank and how they are trained.

    Args:
        config: the whole config.
        cluster: the ranks.
        device: where this rank computes.
        arena: the embedding rows of this rank.
        model: the dense part.
        optimizer: steps the dense part.
        gradients: sums the dense part's gradients over ranks.
        progress: the display.
        log: TensorBoard.

    Attributes:
        stop_requested: whether SIGTERM came to this rank.
        last_checkpoint: URI of the newest checkpoint, for messages.
    """

    config: Config
    cluster: Cluster
    device: torch.device
    arena: EmbeddingArena
    model: Esmm
    optimizer: torch.optim.Optimizer
    gradients: GradientSum
    progress: Progress
    log: TensorBoardLog
    stop_requested: bool = False
    last_checkpoint: str | None = None
    _curve: Curve = field(init=False)
    _steps_with_impressions: int = 0

    def train_epoch(
        self,
        batches: Iterator[Batch],
        plan: EpochPlan,
        state: TrainState,
        counts: PartitionCounts,
        after_step: Callable[[], None],
    ) -> None:
        """Trains the rest of an epoch from `state.next_step` on, moving `state` along.

        Args:
            batches: this rank's share of each step from `state.next_step` on.
            plan: the epoch's steps.
            state: the position; its counts are this rank's share (ranks/seen.py sums them up).
            counts: what the partition holds, to hold the epoch against.
            after_step: called after each step but the last, when a checkpoint may be written.

        Raises:
            UserError: a file of this rank can't be read; FailedElsewhereError on the others.
            NonFiniteLossError: this rank's loss was NaN or infinite; FailedElsewhereError on the others.
            StoppedError: SIGTERM came; all ranks stop after the same step.
            CountMismatchError: the epoch did not see every impression once.
        """
        self.model.train()
        divide_by(self.model.spec, state.weight_means)
        self._curve = Curve(self.progress, self.log)
        end = plan.num_steps
        if self.config.train.max_steps is not None:
            end = min(end, state.next_step + self.config.train.max_steps - state.global_step)
        started = self._start(batches) if state.next_step < end else None
        while started is not None:
            step, batch = state.next_step, started.batch
            at(f"step {step + 1} of epoch {state.epoch + 1}")
            self._begin_step(state, plan)
            to_come = batches if step + 1 < end else None
            stop, started = self._step(started, to_come, plan.impressions_in_step(step), state)
            state.next_step = step + 1
            state.global_step += 1
            state.seen_impressions += batch.num_impressions
            starts = batch.group_hash[batch.starts_group]
            state.seen_hash_sum = wrapped_sum(state.seen_hash_sum, int(starts.sum()))
            self._record(step, plan, state)
            if stop:
                raise StoppedError
            if started is not None:
                after_step()
        if state.next_step == plan.num_steps:
            require_all_seen(
                self.cluster, f"epoch {state.epoch + 1}", state.seen_impressions, state.seen_hash_sum, counts
            )

    def _next(self, batches: Iterator[Batch]) -> tuple[Batch, UserError | None]:
        """Returns the next batch, or an empty one and why: the other ranks wait for this one's exchanges."""
        try:
            with doing("reading a batch"):
                return next(batches), None
        except UserError as error:
            return batch_of([], Layout(self.config.features, self.config.trained)), error

    def _begin_step(self, state: TrainState, plan: EpochPlan) -> None:
        """Sets learning rates and what is dropped out from the position alone, as a resumed run needs it."""
        train = self.config.train
        factor = learning_rate_factor(train, state.global_step, train.epochs * plan.num_steps)
        self.arena.begin_step(state.global_step + 1, factor * train.embedding_learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * train.learning_rate
        if self.model.dropouts:
            places = plan.places(state.next_step, self.cluster.rank, self.cluster.num_ranks)
            draw_by(self.model.dropouts, impression_keys(train.seed, state.global_step, places, self.device))

    def _start(self, batches: Iterator[Batch]) -> _Started:
        """Takes the next batch and starts its look-up."""
        batch, problem = self._next(batches)
        batch = batch.to(self.device)
        return _Started(batch, problem, BatchLookup(self.arena, batch, self.config.features))

    def _step(
        self, started: _Started, to_come: Iterator[Batch] | None, num_impressions: int, state: TrainState
    ) -> tuple[bool, _Started | None]:
        """Trains one step; returns whether some rank was asked to stop, and the next batch.

        Every rank calls this for every step, with an empty batch where it has none: each exchange needs all
        of them. The next batch is made ready while this one's rows are on their way.

        Args:
            started: the step's batch.
            to_come: the batches after it; None at the last step.
            num_impressions: of the global batch.
            state: the position.
        """
        seed_at(self.config.train.seed, state.global_step, self.cluster.rank, self.device)
        self._set_mode(started.batch.num_impressions)
        batch, problem = started.batch, started.problem
        self.optimizer.zero_grad()
        started.lookup.fetch()
        # After a problem this rank's empty batch again: all of them start the same operations.
        following = None if to_come is None else self._start(to_come if problem is None else iter([batch]))
        with self._precision():
            embedded = started.lookup.embedded()
            with doing("in its forward pass"):
                total = self.model.training_loss(embedded, batch.labels, 1 / num_impressions, batch.carried)
        own_loss = float(total.detach())
        own = [own_loss, self.stop_requested, problem is not None, *weight_sums(self.model.spec)]
        reported = self.cluster.sum_later(torch.tensor(own, dtype=torch.float64), "step")
        with doing("in its backward pass"):
            total.backward()
        with waiting("the sum of gradients"):
            self.gradients.finish()
            step_clipped(self.optimizer, self.config.train.gradient_clip_norm)
        global_loss, stops, problems, *sums = reported().tolist()
        if problem is not None:
            raise problem
        if problems:
            raise FailedElsewhereError
        if not math.isfinite(global_loss):
            self._fail_non_finite(own_loss, batch, state)
        state.weight_means = moved_means(state.weight_means, sums, num_impressions, state.global_step + 1)
        divide_by(self.model.spec, state.weight_means)
        self._curve.add(global_loss, num_impressions)
        return bool(stops > 0), following

    def _set_mode(self, num_impressions: int) -> None:
        """Sets training mode, but for a single impression: BatchNorm, for one, can't be trained on that."""
        is_trained = num_impressions > 1
        self._steps_with_impressions += is_trained
        if self.model.training != (num_impressions != 1):
            self.model.train(num_impressions != 1)

    def average_buffers(self) -> None:
        """Makes the network's buffers alike on all ranks, which must call this together."""
        average_buffers(self.model, self._steps_with_impressions, self.cluster)
        self._steps_with_impressions = 0

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.train.bf16)

    def _forward(self, batch: Batch) -> torch.Tensor:
        with self._precision():
            embedded = embed_batch(self.arena, batch, self.config.features)
            with doing("in its forward pass"):
                logits: torch.Tensor = self.model(*embedded)
        return logits.float()

    def _fail_non_finite(self, own_loss: float, batch: Batch, state: TrainState) -> NoReturn:
        if math.isfinite(own_loss):
            raise FailedElsewhereError
        step = f"step {state.global_step + 1} (epoch {state.epoch + 1}, step {state.next_step + 1} of it)"
        where = f"{step} on rank {self.cluster.rank}"
        raise non_finite_loss(own_loss, where, batch, self.last_checkpoint_text)

    @property
    def last_checkpoint_text(self) -> str:
        """Where the last good checkpoint lies, for messages."""
        if self.last_checkpoint is None:
            return "no checkpoint was written yet"
        return f"the last good checkpoint is {self.last_checkpoint}"

    def require_finite(self, state: TrainState) -> None:
        """Raises NonFiniteLossError if something that is kept became NaN or infinite on some rank."""
        own = not_finite(self.arena, self.model, self.optimizer)
        if float(self.cluster.sum(torch.tensor([float(bool(own))]), "finite")[0]):
            found = next(text for text in self.cluster.texts(own, "not.finite") if text)
            self.cluster.fail_together(
                NonFiniteLossError(
                    f"{found} before step {state.global_step + 1}; {self.last_checkpoint_text}: lower the "
                    "learning rates, or look for token weights whose squares are beyond float32 (3e38)"
                )
            )

    def _record(self, step: int, plan: EpochPlan, state: TrainState) -> None:
        # What it writes to may be a paused terminal, or a slow disk.
        with doing("reporting", Kind.UNHURRIED):
            self._curve.record(step, plan, state)

    @torch.no_grad()
    def validate(self, batches: Iterator[Batch], counts: PartitionCounts) -> dict[str, float | None]:
        """Returns the metrics over a whole partition, the same on every rank.

        Raises:
            UserError: a file of this rank can't be read; FailedElsewhereError on the others.
            StoppedError: SIGTERM came.
            CountMismatchError: not every impression was seen once.
        """
        self.model.eval()
        sums = MetricSums(self.config.objective, self.device)
        impressions, hash_sum = 0, 0
        at("a step of validation")
        while True:
            try:
                batch, problem = self._next(batches)
            except StopIteration:
                break
            # On its way while the batch is computed; every rank has as many batches.
            flags = torch.tensor([self.stop_requested, problem is not None], dtype=torch.float32)
            reported = self.cluster.sum_later(flags, "validation.step")
            moved = batch.to(self.device)
            sums.add(self._forward(moved), moved.labels)
            impressions += batch.num_impressions
            hash_sum = wrapped_sum(hash_sum, int(batch.group_hash[batch.starts_group].sum()))
            stops, problems = reported().tolist()
            if problem is not None:
                raise problem
            if problems:
                raise FailedElsewhereError
            if stops:
                raise StoppedError
        require_all_seen(self.cluster, "validation", impressions, hash_sum, counts)
        histograms, totals = sums.tensors()
        return metrics_of(
            self.config.tasks,
            self.cluster.sum(histograms.cpu(), "histograms"),
            self.cluster.sum(totals.cpu(), "metric sums"),
        )
