"""What a person sees of a running training: a bar in a terminal, plain lines elsewhere, and TensorBoard."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

SECONDS_BETWEEN_LINES = 5.0


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


class Progress(Protocol):
    """Shows how far an epoch is."""

    def start_epoch(self, epoch: int, num_epochs: int, num_steps: int, first_step: int) -> None:
        """Begins an epoch (counted from 0) of `num_steps` steps at `first_step`."""

    def step(self, step: int, loss: float, impressions_per_s: float) -> None:
        """Shows that `step` of the epoch is done, with the loss and the speed in impressions/s."""

    def message(self, text: str) -> None:
        """Shows a line that stays."""

    def close(self) -> None:
        """Ends the display."""


class SilentProgress:
    """Shows nothing: what all ranks but the first use."""

    def start_epoch(self, epoch: int, num_epochs: int, num_steps: int, first_step: int) -> None:
        """Shows nothing."""

    def step(self, step: int, loss: float, impressions_per_s: float) -> None:
        """Shows nothing."""

    def message(self, text: str) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Shows nothing."""


class LineProgress:
    """A line every few seconds: for logs, and for horovodrun, which passes on output line by line."""

    def __init__(self, seconds_between_lines: float = SECONDS_BETWEEN_LINES) -> None:
        self._seconds_between_lines = seconds_between_lines
        self._last_line_s = 0.0
        self._title, self._num_steps = "", 0

    def start_epoch(self, epoch: int, num_epochs: int, num_steps: int, first_step: int) -> None:
        """Begins an epoch."""
        self._title, self._num_steps = f"epoch {epoch + 1}/{num_epochs}", num_steps
        self._last_line_s = time.monotonic()

    def step(self, step: int, loss: float, impressions_per_s: float) -> None:
        """Prints a line if the last one is long enough ago or the epoch is done."""
        now = time.monotonic()
        done = step + 1
        if done < self._num_steps and now - self._last_line_s < self._seconds_between_lines:
            return
        self._last_line_s = now
        filled = 24 * done // self._num_steps
        self.message(
            f"{self._title} [{'#' * filled}{'.' * (24 - filled)}] step {done}/{self._num_steps}  "
            f"loss {loss:.5f}  {impressions_per_s:,.0f} impressions/s"
        )

    def message(self, text: str) -> None:
        """Prints the line."""
        print(text, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class BarProgress:
    """A rich progress bar on a terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.5f}  {task.fields[speed]:,.0f} impressions/s"),
            TimeRemainingColumn(),
        )
        self._bar.start()
        self._task: Any = None

    def start_epoch(self, epoch: int, num_epochs: int, num_steps: int, first_step: int) -> None:
        """Adds the epoch's bar."""
        self._task = self._bar.add_task(
            f"epoch {epoch + 1}/{num_epochs}",
            total=num_steps,
            completed=first_step,
            loss=float("nan"),
            speed=0.0,
        )

    def step(self, step: int, loss: float, impressions_per_s: float) -> None:
        """Moves the bar."""
        self._bar.update(self._task, completed=step + 1, loss=loss, speed=impressions_per_s)

    def message(self, text: str) -> None:
        """Prints the line above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Leaves the finished bars on the screen."""
        self._bar.stop()


def progress_for(is_first_rank: bool) -> Progress:
    """Returns the display that suits this rank and where its output goes."""
    if not is_first_rank:
        return SilentProgress()
    return BarProgress() if sys.stdout.isatty() else LineProgress()


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
