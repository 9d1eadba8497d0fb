"""The process's current activity, a global that the watchdog's thread reads (training/ranks/watch.py).

    with doing("reading a batch"):            it works: whoever waits for it long enough gives up on it
        ...
        with waiting('exchange "step"'):      it waits for others
            ...
    with doing("writing a checkpoint", Kind.UNHURRIED):    it may take as long as it likes

One thread of a process is watched, so what it does is a global of this module. To note it costs less than a
microsecond.
"""

import time
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple


class Kind(StrEnum):
    """What an activity is to the watchdog: work, waiting for other ranks, or work that may take long."""

    WORKS = "works"
    WAITS = "waits"
    UNHURRIED = "unhurried"


class Activity(NamedTuple):
    """What the process does, where it stands in its work, and since when, in seconds of `time.monotonic`."""

    kind: Kind
    what: str
    since_s: float


_now = Activity(Kind.WORKS, "starting", time.monotonic())
_place = ""
_compilations = 0


def current() -> Activity:
    """Returns the current activity; while a kernel compiles, one that may take long."""
    if _compilations:
        return Activity(Kind.UNHURRIED, f"compiling a kernel{_at()}", _now.since_s)
    return Activity(_now.kind, f"{_now.what}{_at()}", _now.since_s)


def at(place: str) -> None:
    """Notes where the process stands in its work: `step 13 of epoch 1`; empty for nowhere."""
    global _place
    _place = place


def compiling(more: int) -> None:
    """Notes that a compilation began (1) or ended (-1)."""
    global _compilations
    _compilations += more


class doing:  # noqa: N801  reads as a verb: `with doing("reading a batch"):`
    """Context manager: sets the process's current activity while its block runs.

    Args:
        what: `reading a batch`.
        kind: whose time it is.
    """

    __slots__ = ("_before", "_kind", "_what")

    def __init__(self, what: str, kind: Kind = Kind.WORKS) -> None:
        self._what, self._kind = what, kind

    def __enter__(self) -> None:
        global _now
        self._before = _now
        _now = Activity(self._kind, self._what, time.monotonic())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was done before goes on from now: something came to its end.
        global _now
        _now = self._before._replace(since_s=time.monotonic())


def waiting(what: str) -> doing:
    """Returns the context manager of an activity that waits for other ranks in `what`."""
    return doing(f"waiting in {what}", Kind.WAITS)


def inside(part: str) -> doing:
    """Returns the context manager of a long step within other work, named after both."""
    what = f"{_now.what}, {part}" if _now.kind is Kind.UNHURRIED else part
    return doing(what, Kind.UNHURRIED)


def _at() -> str:
    return f" at {_place}" if _place else ""
