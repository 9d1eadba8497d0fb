"""Finds the rank that keeps the others waiting, from what the ranks report of themselves. Pure arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

from esmm_spark.runtime.activity import Activity, Kind

# A rank that is silent for so long is named where Horovod gave up.
_SILENT_S = 5.0
# After waiting so long for a rank that is dead, rank 0 won't learn it from Horovod in time to tell.
_SECONDS_TO_LOSE_TOUCH = 1.5
# Those who ended within this time of the first did so because of it.
_TOGETHER_S = 1.0
_SHOWN = 4
_GOES_ON = "the same command goes on from the newest checkpoint"
_REMEDY = f"all ranks stop; {_GOES_ON}"


@dataclass
class Peer:
    """What is known of a rank. Times are seconds of `time.monotonic` on the first rank.

    Attributes:
        rank: the rank.
        num_ranks: ranks of the job.
        host: its host.
        heard_s: when its last message came.
        kind: whose time passed then.
        what: what it did then.
        age_s: for how long it had done so.
        ended_s: when it ended, None while it lives.
        said_so: whether it told that it ends; a process that is killed doesn't.
    """

    rank: int
    num_ranks: int
    host: str
    heard_s: float
    kind: Kind = Kind.WORKS
    what: str = "starting"
    age_s: float = 0.0
    ended_s: float | None = None
    said_so: bool = False

    @property
    def is_present(self) -> bool:
        """Whether it lives, as far as is known."""
        return self.ended_s is None

    @property
    def name(self) -> str:
        """`rank 1 of 2 on host-b`."""
        return f"rank {self.rank} of {self.num_ranks} on {self.host}"

    def end(self, now: float, said_so: bool = False) -> None:
        """Notes that it ended."""
        if self.ended_s is None:
            self.ended_s, self.said_so = now, said_so


def reason_to_end(peers: Sequence[Peer], timeout_s: float, now: float, last_unhurried_s: float) -> str | None:
    """Returns why the job has to end, naming who is to blame; None if it may go on.

    Args:
        peers: all ranks that have said something.
        timeout_s: how long a rank may wait for the others.
        now: the time.
        last_unhurried_s: when some rank was last at something that may take long: waiting counts from then.
    """
    present = [peer for peer in peers if peer.is_present]
    for peer in present:
        if now - peer.heard_s > timeout_s:
            return f"{no_sign(peer.name, now - peer.heard_s, timeout_s)}; it was last heard {peer.what}"
    patience_s = now - last_unhurried_s
    waits = [min(peer.age_s, patience_s) for peer in present if peer.kind is Kind.WAITS]
    longest_s = max(waits, default=0.0)
    if longest_s < timeout_s:
        return None
    to_blame = [peer for peer in present if peer.kind is Kind.WORKS]
    limit = f"train.stall_timeout_s = {timeout_s:g}"
    if to_blame:
        told = _list([f"{peer.name}, which is {peer.what} for {peer.age_s:.0f} s" for peer in to_blame])
        return f"the others have waited {longest_s:.0f} s ({limit}) for {told}; {_REMEDY}"
    told = _list([*filter(None, [trouble(peers, now)]), *(f"{peer.name} is {peer.what}" for peer in present)])
    return f"all ranks wait for each other for {longest_s:.0f} s ({limit}): {told}; {_REMEDY}"


def cut_off(peers: Sequence[Peer], own: Activity, now: float) -> str | None:
    """Returns why the first rank ends when it waits for a rank that is dead; None if it doesn't.

    Of three ranks and more, Horovod on the first may wait for one that has lost touch itself, until that one
    has ended; horovodrun leaves all of them 5 s.

    Args:
        peers: all ranks that have said something.
        own: what the first rank does.
        now: the time.
    """
    died_s = [peer.ended_s for peer in peers if peer.ended_s is not None and not peer.said_so]
    waits_s = now - max(own.since_s, min(died_s, default=now))
    if own.kind is not Kind.WAITS or waits_s < _SECONDS_TO_LOSE_TOUCH:
        return None
    return stops(0, peers[0].num_ranks, trouble(peers, now))


def stops(rank: int, num_ranks: int, why: str) -> str:
    """Returns what a rank says that ends because of another."""
    return f"rank {rank} of {num_ranks} stops: {why}; {_GOES_ON}"


def trouble(peers: Sequence[Peer], now: float) -> str:
    """Returns which ranks ended first or are silent, for a message; empty if there are none."""
    ends = [peer.ended_s for peer in peers if peer.ended_s is not None]
    first_s = min(ends, default=0.0)
    told = [
        f"{peer.name} ended; it was {peer.what}"
        for peer in peers
        if peer.ended_s is not None and peer.ended_s - first_s <= _TOGETHER_S
    ]
    told += [
        f"{peer.name} gives no sign of life for some seconds; it was {peer.what}"
        for peer in peers
        if peer.is_present and now - peer.heard_s > _SILENT_S
    ]
    return _list(told)


def no_sign(name: str, silent_s: float, timeout_s: float) -> str:
    """Returns why the job has to end for a rank that is silent."""
    limit = f"train.stall_timeout_s = {timeout_s:g}"
    return f"{name} gives no sign of life for {silent_s:.0f} s ({limit}); {_REMEDY}"


def _list(told: Sequence[str]) -> str:
    more = len(told) - _SHOWN
    return ", ".join([*told[:_SHOWN], *([f"and {more} more ranks"] if more > 0 else [])])
