"""Progress display of epochs, the averages that it shows, and TensorBoard."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from esmm_spark.runtime.progress import Bars, Display, LineDisplay, Silence, how_far


@dataclass
class Window:
    """The loss and the speed since the last point of the training curve."""

    loss_sum: float = 0.0
    impressions: int = 0
    started_s: float = field(default_factory=lambda: time.monotonic())

    def add(self, mean_loss: float, impressions: int) -> None:
        """Adds a step: its mean loss over its impressions."""
        self.loss_sum += mean_loss * impressions
        self.impressions += impressions

    def after(self, before: "Window") -> "Window":
        """Returns both windows as one, which was opened as `before` was."""
        return Window(
            self.loss_sum + before.loss_sum, self.impressions + before.impressions, before.started_s
        )

    @property
    def mean_loss(self) -> float:
        """Mean over all impressions added; NaN for none."""
        return self.loss_sum / self.impressions if self.impressions else float("nan")

    @property
    def impressions_per_s(self) -> float:
        """Impressions per second since the window was opened."""
        return self.impressions / max(time.monotonic() - self.started_s, 1e-9)


class Progress:
    """Shows how far an epoch is.

    Args:
        display: where.
    """

    def __init__(self, display: Display) -> None:
        self._display = display
        self._num_steps = self._first_step = 0
        self._started_s = self._first_ended_s = 0.0

    def start_epoch(self, epoch: int, num_epochs: int, num_steps: int, first_step: int) -> None:
        """Begins an epoch (counted from 0) of `num_steps` steps at `first_step`."""
        self._num_steps, self._first_step = num_steps, first_step
        self._started_s = time.monotonic()
        self._display.begin(f"epoch {epoch + 1}/{num_epochs}")

    def step(self, step: int, loss: float, impressions_per_s: float) -> None:
        """Shows that `step` of the epoch is done if it is time to, or if it is the last one."""
        done = step + 1
        if step == self._first_step:
            self._first_ended_s = time.monotonic()
        if done < self._num_steps and not self._display.is_due():
            return
        # An estimate leaves out the first step: it may have waited for kernels to be compiled.
        is_estimate = step > self._first_step and done < self._num_steps
        elapsed_s = time.monotonic() - (self._first_ended_s if is_estimate else self._started_s)
        steps = how_far(done, self._num_steps, "steps", elapsed_s, self._first_step + 1)
        text = f"{steps}, loss {loss:.5f}, {impressions_per_s:,.0f} impressions/s"
        self._display.show(done, self._num_steps, text)

    def message(self, text: str) -> None:
        """Shows a line that stays."""
        self._display.message(text)

    def close(self) -> None:
        """Ends the display."""
        self._display.close()


def progress_for(is_first_rank: bool) -> Progress:
    """Returns what suits this rank, the first of which speaks for all, and where its output goes."""
    if not is_first_rank:
        return Progress(Silence())
    return Progress(Bars(sys.stdout) if sys.stdout.isatty() else LineDisplay("stdout"))


class TensorBoardLog:
    """Scalars for TensorBoard, or nothing where it is switched off."""

    def __init__(self, folder: str | None) -> None:
        self._writer: Any = None
        if folder is not None:
            from tensorboard.summary import Writer

            self._writer = Writer(folder)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Logs each value that is not None under its name."""
        if self._writer is not None:
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes out what is still in memory."""
        if self._writer is not None:
            self._writer.close()
