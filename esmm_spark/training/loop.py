"""One step, one epoch and one validation pass, over all ranks.

Shapes: G groups, N impressions of this rank's share of the global batch; Fc, Fi fields; D dim.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from esmm_spark.config import Config
from esmm_spark.errors import CountMismatchError, NonFiniteLossError, RankFailedError
from esmm_spark.feed.batch import Batch
from esmm_spark.feed.plan import EpochPlan
from esmm_spark.manifest import PartitionCounts
from esmm_spark.model.arena import EmbeddingArena
from esmm_spark.model.esmm import Esmm, Logits, embed_batch
from esmm_spark.training.cluster import Cluster
from esmm_spark.training.metrics import MetricSums, metrics_of
from esmm_spark.training.progress import Progress, TensorBoardLog
from esmm_spark.training.state import StepRecord, TrainState, wrapped_sum

POINTS_PER_EPOCH = 100  # of the training curve
GROUP_KEYS_SHOWN = 5


class StoppedError(Exception):
    """Training was asked to stop (SIGTERM) and the ranks agreed on the step."""


@dataclass
class Trainer:
    """The parameters of one rank and how they are trained.

    Args:
        config: the whole config.
        cluster: the ranks.
        device: where this rank computes.
        arena: the embedding rows of this rank.
        model: the dense part.
        optimizer: steps the dense part; its gradients are summed over ranks.
        progress: the display.
        log: TensorBoard.
    """

    config: Config
    cluster: Cluster
    device: torch.device
    arena: EmbeddingArena
    model: Esmm
    optimizer: torch.optim.Optimizer
    progress: Progress
    log: TensorBoardLog
    stop_requested: bool = False
    _window: "_Window" = field(default_factory=lambda: _Window())

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
            state: the position; its counts are this rank's share until `sum_seen` is called.
            counts: what the partition holds, to hold the epoch against.
            after_step: called after each step, at a boundary at which a checkpoint may be written.

        Raises:
            NonFiniteLossError: this rank's loss was NaN or infinite; RankFailedError on the others.
            StoppedError: SIGTERM came; all ranks stop after the same step.
            CountMismatchError: the epoch did not see every impression once.
        """
        self.model.train()
        self._window = _Window()
        for step, batch in enumerate(batches, start=state.next_step):
            stop = self._step(batch, plan.impressions_in_step(step), state)
            state.next_step = step + 1
            state.global_step += 1
            state.seen_impressions += batch.num_impressions
            starts = batch.group_hash[batch.starts_group]
            state.seen_hash_sum = wrapped_sum(state.seen_hash_sum, int(starts.sum()))
            self._record(step, plan, state)
            if stop:
                raise StoppedError
            if self._at_step_limit(state):
                return
            after_step()
        self._check_epoch(state, counts)

    def _at_step_limit(self, state: TrainState) -> bool:
        return self.config.train.max_steps is not None and state.global_step >= self.config.train.max_steps

    def _step(self, batch: Batch, num_impressions: int, state: TrainState) -> bool:
        """Trains one step; returns whether some rank was asked to stop.

        Every rank calls this for every step, with an empty batch where it has none: each exchange needs all
        of them.
        """
        # Seeded by position, so that a network with dropout gives the same in a resumed run.
        torch.manual_seed(self.config.train.seed * 1_000_003 + state.global_step * 1009 + self.cluster.rank)
        batch = batch.to(self.device)
        self.optimizer.zero_grad(set_to_none=False)
        loss = self.model.loss(self._forward(batch), batch.click, batch.conversion)
        total = loss.total / num_impressions
        report = torch.stack(
            [total.detach().double().cpu(), torch.tensor(float(self.stop_requested)).double()]
        )
        reported = self.cluster.sum_later(report, "step")
        total.backward()
        self.optimizer.step()
        global_loss, stops = reported().tolist()
        if not torch.isfinite(torch.tensor(global_loss)):
            self._fail_non_finite(float(total.detach()), batch, state)
        self._window.add(global_loss, num_impressions)
        return bool(stops > 0)

    def _forward(self, batch: Batch) -> Logits:
        spec = self.config.features
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.train.bf16):
            context, impression = embed_batch(self.arena, batch, spec)
            logits = self.model(context, impression, batch.group_sizes)
        return Logits(logits.ctr.float(), logits.cvr.float())

    def _fail_non_finite(self, own_loss: float, batch: Batch, state: TrainState) -> None:
        where = f"step {state.global_step} (epoch {state.epoch + 1}, step {state.next_step} of it)"
        if own_loss == own_loss and abs(own_loss) != float("inf"):
            raise RankFailedError(
                f"rank {self.cluster.rank} stops: the loss of another rank is not finite at {where}"
            )
        keys = batch.group_keys
        shown = ", ".join(str(key) for key in keys[:GROUP_KEYS_SHOWN]) + (
            " ..." if len(keys) > GROUP_KEYS_SHOWN else ""
        )
        raise NonFiniteLossError(
            f"the loss is {own_loss} at {where} on rank {self.cluster.rank}, among {len(keys)} groups: "
            f"{shown}"
        )

    def _record(self, step: int, plan: EpochPlan, state: TrainState) -> None:
        every = max(1, plan.num_steps // POINTS_PER_EPOCH)
        window = self._window
        last = step + 1 == plan.num_steps
        self.progress.step(step, window.mean_loss, window.impressions_per_s)
        if state.global_step % every == 0 or last:
            record = StepRecord(
                step=state.global_step,
                epoch=state.epoch,
                loss=window.mean_loss,
                impressions_per_s=window.impressions_per_s,
            )
            state.history.steps.append(record)
            self.log.scalars(
                state.global_step,
                {"train/loss": record.loss, "train/impressions_per_s": record.impressions_per_s},
            )
            self._window = _Window()

    def sum_seen(self, state: TrainState) -> tuple[int, int]:
        """Returns this epoch's impressions and group hash sum so far over all ranks."""
        seen = torch.tensor([state.seen_impressions, state.seen_hash_sum], dtype=torch.int64)
        impressions, hash_sum = self.cluster.sum(seen, "seen").tolist()
        return impressions, hash_sum

    def _check_epoch(self, state: TrainState, counts: PartitionCounts) -> None:
        impressions, hash_sum = self.sum_seen(state)
        if (impressions, hash_sum) != (counts.impressions, counts.group_hash_sum):
            raise CountMismatchError(
                f"epoch {state.epoch + 1} saw {impressions:,} impressions with group hash sum {hash_sum}, "
                f"the manifest says {counts.impressions:,} with {counts.group_hash_sum}"
            )

    @torch.no_grad()
    def validate(self, batches: Iterator[Batch], counts: PartitionCounts) -> dict[str, float | None]:
        """Returns the metrics over a whole partition, the same on every rank.

        Raises:
            CountMismatchError: not every impression was seen once.
        """
        self.model.eval()
        sums = MetricSums(self.device)
        seen = 0
        for batch in batches:
            moved = batch.to(self.device)
            sums.add(self._forward(moved), moved.click, moved.conversion)
            seen += batch.num_impressions
        histograms, totals = sums.tensors()
        all_seen = int(self.cluster.sum(torch.tensor([seen], dtype=torch.int64), "validated").item())
        if all_seen != counts.impressions:
            raise CountMismatchError(
                f"validation saw {all_seen:,} impressions, the manifest says {counts.impressions:,}"
            )
        return metrics_of(
            self.cluster.sum(histograms.cpu(), "histograms"), self.cluster.sum(totals.cpu(), "metric sums")
        )


@dataclass
class _Window:
    """The loss and the speed since the last point of the training curve."""

    loss_sum: float = 0.0
    impressions: int = 0
    started_s: float = field(default_factory=time.monotonic)

    def add(self, mean_loss: float, impressions: int) -> None:
        self.loss_sum += mean_loss * impressions
        self.impressions += impressions

    @property
    def mean_loss(self) -> float:
        return self.loss_sum / self.impressions if self.impressions else float("nan")

    @property
    def impressions_per_s(self) -> float:
        return self.impressions / max(time.monotonic() - self.started_s, 1e-9)
