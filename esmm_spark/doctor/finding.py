"""What a check finds, as a line for people."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from esmm_spark.contracts.locations import redacted


class Outcome(StrEnum):
    """What is to be done about a finding: nothing, perhaps something, something."""

    OK = "ok"
    NOTE = "note"
    FAILED = "FAILED"


class Finding(NamedTuple):
    """One line.

    Attributes:
        outcome: whether it is right.
        what: was looked at: `Java`.
        text: what was found, and what to do about it if it isn't right.
    """

    outcome: Outcome
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.outcome:<6}  {self.what}: {redacted(' '.join(self.text.split()))}"


def right(what: str, text: str) -> Finding:
    """Returns the finding that all is well."""
    return Finding(Outcome.OK, what, text)


def wrong(what: str, text: str) -> Finding:
    """Returns the finding that something must be mended."""
    return Finding(Outcome.FAILED, what, text)


def guarded(what: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yields a check's findings; a check that fails itself is one, too, and the next ones go on."""
    try:
        yield from check()
    except Exception as error:
        yield wrong(what, f"{type(error).__name__}: {error}")
