"""Notes on the run of this process, a global from which its record is made (commands/recording.py).

    with stage("group the lines of train"):    how long a named step takes
        ...
    this_run().counted(rows_in=..., rows_out=...)

A process runs one command, and what notes its stages lies many layers below it: so this is a global, as in
activity.py. Where no command has begun, notes are taken and nobody reads them.
"""

import posixpath
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

# What ended a run: an exception, or the line that it ended with; None where nothing went wrong.
Error = BaseException | str | None


@dataclass(frozen=True)
class Output:
    """What a run writes.

    Attributes:
        root: the folder that the config names.
        partition: the one of it that is written, None for all.
        within: the folders in the root, relative to it, that have a part of the partition each.
        is_recorded: whether this process writes the record beside it.
    """

    root: str
    partition: str | None = None
    within: tuple[str, ...] = ("",)
    is_recorded: bool = True

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that hold what is written, and nothing else."""
        return tuple(posixpath.join(self.root, folder, self.partition or "") for folder in self.within)


@dataclass
class RunNotes:
    """What is known so far of the run.

    Attributes:
        started_s: when it began, by `time.time`.
        begun_s: the same by `time.monotonic`.
        config_digest: None without a config, or before it was read.
        output: None before that is known.
        stages: name -> seconds, in the order in which they began.
        rows_in: see `RunRecord`, as all that follows.
        metrics_file: where the record goes as Prometheus's text, too.
        at_end: writes the record; None where this process writes none.
    """

    started_s: float = field(default_factory=lambda: time.time())
    begun_s: float = field(default_factory=lambda: time.monotonic())
    config_digest: str | None = None
    output: Output | None = None
    stages: dict[str, float] = field(default_factory=dict)
    rows_in: int | None = None
    rows_out: int | None = None
    rejects: dict[str, int] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    metrics_file: str | None = None
    at_end: "AtEnd | None" = None

    def writes(
        self,
        root: str,
        partition: str | None = None,
        within: tuple[str, ...] = ("",),
        is_recorded: bool = True,
    ) -> None:
        """Notes where the output goes, as in `Output`."""
        self.output = Output(root, partition, within, is_recorded)

    def counted(
        self,
        rows_in: int | None = None,
        rows_out: int | None = None,
        rejects: Mapping[str, int] | None = None,
    ) -> None:
        """Notes the counts."""
        self.rows_in, self.rows_out, self.rejects = rows_in, rows_out, dict(rejects or {})

    def ended(self, exit_code: int, error: Error = None) -> None:
        """Has the record written, once: a process may be ended from several places."""
        at_end, self.at_end = self.at_end, None
        if at_end is not None:
            at_end(self, exit_code, error)

    def ended_within(self, seconds: float, exit_code: int, error: Error) -> None:
        """Calls `ended` with a time limit, for a process that ends whatever happens."""
        thread = threading.Thread(target=self.ended, args=(exit_code, error), daemon=True)
        thread.start()
        thread.join(seconds)


# Writes the record of a run: its notes, its exit code, and why it failed.
AtEnd = Callable[[RunNotes, int, Error], None]

_current = RunNotes()


def begin_run(at_end: AtEnd | None) -> RunNotes:
    """Returns the notes of a run that begins now; `at_end` writes its record."""
    global _current
    _current = RunNotes(at_end=at_end)
    return _current


def this_run() -> RunNotes:
    """Returns the notes of this process's run."""
    return _current


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Notes for the time of a `with` that a named step is at work; what fails counts, too."""
    stages, begun_s = _current.stages, time.monotonic()
    stages.setdefault(name, 0.0)
    try:
        yield
    finally:
        stages[name] += time.monotonic() - begun_s
