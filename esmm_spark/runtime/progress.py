"""Progress display of long work: rich bars on a terminal, elsewhere a line after five seconds and every ten.

    group the lines of train: 12 of 40 tasks, about 25 s left
    group the lines of train: done in 41 s
    epoch 1/2: 1,200 of 5,000 steps, about 1 min 40 s left, loss 0.51234, 121,000 impressions/s

`spark/steps.py` shows the steps of the jobs, `training/progress.py` the epochs of a training.
"""

import sys
import time
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10.0
# Work that is shorter needs no line.
_SECONDS_TO_LINE = 5.0
_SECONDS_BETWEEN_FRAMES = 0.2
# Work that is shorter needs no bar.
_SECONDS_TO_BAR = 1.0


class Display(Protocol):
    """Shows one piece of work after another."""

    def begin(self, name: str) -> None:
        """Begins a piece of work, such as `epoch 1/2`."""

    def is_due(self) -> bool:
        """Returns whether it is time to show how far the work is."""

    def show(self, done: int, total: int, text: str) -> None:
        """Shows how far it is, now; `total` is 0 where it isn't known."""

    def end(self, text: str) -> None:
        """Shows that it is done, if it was shown at all."""

    def message(self, text: str) -> None:
        """Shows a line that stays."""

    def close(self) -> None:
        """Ends the display, wherever the work is."""


class Silence:
    """Shows nothing."""

    def begin(self, name: str) -> None:
        """Shows nothing."""

    def is_due(self) -> bool:
        """Returns False."""
        return False

    def show(self, done: int, total: int, text: str) -> None:
        """Shows nothing."""

    def end(self, text: str) -> None:
        """Shows nothing."""

    def message(self, text: str) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Shows nothing."""


class LineDisplay:
    """A line every ten seconds: for logs, and for horovodrun, which passes on output line by line.

    Args:
        stream: where to; looked up at each line, so that it is what it is then.
        seconds_between: at least, from one line to the next.
        seconds_to_first: at least, from the beginning of a piece of work to its first line.
    """

    def __init__(
        self,
        stream: Literal["stdout", "stderr"],
        seconds_between: float = SECONDS_BETWEEN_LINES,
        seconds_to_first: float = _SECONDS_TO_LINE,
    ) -> None:
        self._stream, self._seconds_between = stream, seconds_between
        self._seconds_to_first = seconds_to_first
        self._name, self._last_s, self._is_shown = "", 0.0, False

    def begin(self, name: str) -> None:
        """Shows nothing yet."""
        self._name, self._last_s, self._is_shown = name, time.monotonic(), False

    def is_due(self) -> bool:
        """Returns whether the last line, or the beginning, is long enough ago."""
        between = self._seconds_between if self._is_shown else self._seconds_to_first
        return time.monotonic() - self._last_s >= between

    def show(self, done: int, total: int, text: str) -> None:
        """Prints a line."""
        self._last_s, self._is_shown = time.monotonic(), True
        self.message(f"{self._name}: {text}")

    def end(self, text: str) -> None:
        """Prints a last line, if there was one before."""
        if self._is_shown:
            self.message(f"{self._name}: {text}")

    def message(self, text: str) -> None:
        """Prints the line."""
        print(text, file=getattr(sys, self._stream), flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class Bars:
    """A rich bar per piece of work; those that are done stay.

    Args:
        screen: the terminal.
    """

    def __init__(self, screen: TextIO) -> None:
        self._screen = screen
        self._bars: Progress | None = None
        self._name, self._begun_s, self._last_s = "", 0.0, 0.0
        self._is_shown = False

    def begin(self, name: str) -> None:
        """Shows nothing yet."""
        self._name, self._begun_s, self._is_shown = name, time.monotonic(), False

    def is_due(self) -> bool:
        """Returns whether the work is long enough for a bar, and the bar's last change long enough ago."""
        now = time.monotonic()
        return now - self._begun_s >= _SECONDS_TO_BAR and now - self._last_s >= _SECONDS_BETWEEN_FRAMES

    def show(self, done: int, total: int, text: str) -> None:
        """Moves the bar."""
        self._last_s = time.monotonic()
        bars = self._started()
        if not self._is_shown:
            bars.add_task(self._name, text="")
            self._is_shown = True
        bars.update(bars.task_ids[-1], completed=done, total=total or None, text=text)

    def end(self, text: str) -> None:
        """Leaves the bar full."""
        if self._is_shown:
            self.show(1, 1, text)

    def message(self, text: str) -> None:
        """Prints the line above the bar."""
        self._started().console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leaves the bars on the screen as they are."""
        if self._bars is not None:
            self._bars.stop()

    def _started(self) -> "Progress":
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}")
            # Lines of the log appear above the bars where both go to one terminal; stdout may be a file.
            self._bars = Progress(
                *columns,
                console=Console(file=self._screen),
                redirect_stdout=self._screen is sys.stdout,
                redirect_stderr=sys.stderr.isatty(),
            )
            self._bars.start()
        return self._bars


def how_far(done: int, total: int, unit: str, elapsed_s: float, done_before: int = 0) -> str:
    """Returns `12 of 40 tasks, about 25 s left`, or the time so far where there is nothing to go by.

    The estimate takes what is left for as long as what is done.

    Args:
        done: of `total`; 0 of 0 where nothing is known.
        total: 0 where it isn't known.
        unit: what is counted.
        elapsed_s: how long it took.
        done_before: how many of `done` were done before that time.
    """
    if total == 0:
        return duration(elapsed_s)
    text = f"{done:,} of {total:,} {unit}, "
    if done in (done_before, total):
        return text + duration(elapsed_s)
    return text + f"about {duration(elapsed_s * (total - done) / (done - done_before))} left"


def duration(seconds: float) -> str:
    """Returns `41 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
