"""The training curve, a point every hundredth of an epoch, and its display."""

from dataclasses import dataclass, field

from esmm_spark.contracts.schemas.records import StepRecord
from esmm_spark.feed.plan import EpochPlan
from esmm_spark.training.progress import Progress, TensorBoardLog, Window
from esmm_spark.training.state import TrainState

POINTS_PER_EPOCH = 100


@dataclass
class Curve:
    """Loss and speed of an epoch, step by step.

    Args:
        progress: the display.
        log: TensorBoard.
    """

    progress: Progress
    log: TensorBoardLog
    _epoch: Window = field(default_factory=Window)
    _before: Window | None = None
    _window: Window = field(default_factory=Window)

    def add(self, mean_loss: float, impressions: int) -> None:
        """Adds a step: its mean loss over its impressions."""
        self._epoch.add(mean_loss, impressions)
        self._window.add(mean_loss, impressions)

    def record(self, step: int, plan: EpochPlan, state: TrainState) -> None:
        """Shows the step that was added last, and makes it a point of the curve where one is due.

        What is shown is of the last one to two points: a window that was just opened says nothing. The last
        line has the whole epoch's speed.
        """
        window, last = self._window, step + 1 == plan.num_steps
        shown = window if self._before is None else window.after(self._before)
        self.progress.step(step, shown.mean_loss, (self._epoch if last else shown).impressions_per_s)
        if state.global_step % max(1, plan.num_steps // POINTS_PER_EPOCH) != 0 and not last:
            return
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
        self._before, self._window = window, Window()
