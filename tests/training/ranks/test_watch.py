"""The watch over ranks: who is to blame for a stall, who is gone, and that real ranks end in time."""

import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from esmm_spark.feed import reader
from esmm_spark.feed.groups import GroupSlice
from esmm_spark.runtime import activity
from esmm_spark.runtime.activity import Activity, Kind, doing, inside, waiting
from esmm_spark.training.ranks import watch
from esmm_spark.training.ranks.judge import Peer, cut_off, reason_to_end, trouble
from esmm_spark.training.ranks.launch import launched_rank
from esmm_spark.training.ranks.watch import Watch
from tests.training.runs import run, run_and_signal, steps_with_checkpoint, told

NewRun = Callable[..., Path]
NOW = 1000.0


def peer(rank: int, kind: Kind, what: str, age_s: float, **more: Any) -> Peer:
    return Peer(rank, 3, f"host-{rank}", more.pop("heard_s", NOW - 1), kind, what, age_s, **more)


def test_the_rank_that_works_while_others_wait_is_named_with_what_it_does() -> None:
    peers = [
        peer(0, Kind.WAITS, 'waiting in exchange "step"', 11),
        peer(1, Kind.WORKS, "reading a batch at step 13 of epoch 2", 12),
        peer(2, Kind.WAITS, 'waiting in exchange "step"', 9),
    ]
    assert reason_to_end(peers, 10, NOW, last_unhurried_s=0) == (
        "the others have waited 11 s (train.stall_timeout_s = 10) for rank 1 of 3 on host-1, which is "
        "reading a batch at step 13 of epoch 2 for 12 s; all ranks stop; the same command goes on from the "
        "newest checkpoint"
    )
    assert reason_to_end(peers, 12, NOW, last_unhurried_s=0) is None


def test_a_watch_that_never_began_is_closed_and_nobody_listens_any_more() -> None:
    hub = Watch(0, 1, 10)
    host, port, *_ = hub.address.split()
    hub.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 1)


@pytest.mark.parametrize(
    ("peers", "last_unhurried_s"),
    [
        # A checkpoint that takes long, and the first seconds after one.
        ([(0, Kind.WAITS, "", 900), (1, Kind.UNHURRIED, "", 900)], NOW),
        ([(0, Kind.WAITS, "", 900), (1, Kind.WORKS, "", 1)], NOW - 9),
        # A batch that is slow for all of them: nobody waits.
        ([(0, Kind.WORKS, "", 900), (1, Kind.WORKS, "", 900)], 0),
    ],
)
def test_long_work_that_is_right_is_no_stall(
    peers: list[tuple[int, Kind, str, float]], last_unhurried_s: float
) -> None:
    assert reason_to_end([peer(*each) for each in peers], 10, NOW, last_unhurried_s) is None


def test_a_silent_rank_and_ranks_that_all_wait_are_told_apart() -> None:
    waiter = peer(0, Kind.WAITS, "waiting in a", 20)
    silent = peer(1, Kind.UNHURRIED, "writing a checkpoint", 0, heard_s=NOW - 11)
    assert "rank 1 of 3 on host-1 gives no sign of life for 11 s" in str(
        reason_to_end([waiter, silent], 10, NOW, 0)
    )
    gone = peer(1, Kind.WORKS, "in its forward pass", 0, ended_s=NOW - 15)
    assert (
        "all ranks wait for each other for 20 s (train.stall_timeout_s = 10): rank 1 of 3 on host-1 ended; "
        "it was in its forward pass, rank 0 of 3 on host-0 is waiting in a;"
    ) in str(reason_to_end([waiter, gone], 10, NOW, 0))


def test_of_ranks_that_ended_the_first_are_named() -> None:
    peers = [
        peer(0, Kind.WAITS, "waiting", 1, ended_s=NOW - 1),
        peer(2, Kind.WORKS, "reading a batch", 1, ended_s=NOW - 4),
    ]
    assert trouble(peers, NOW) == "rank 2 of 3 on host-2 ended; it was reading a batch"


def test_the_first_rank_ends_when_it_waits_for_one_that_died_and_not_for_one_that_said_goodbye() -> None:
    died, left = (peer(2, Kind.WORKS, "reading a batch", 1) for _ in range(2))
    died.end(NOW)
    left.end(NOW, said_so=True)
    left.end(NOW)
    waits = Activity(Kind.WAITS, 'waiting in exchange "step"', NOW - 9)
    assert cut_off([died], waits, NOW + 2) == (
        "rank 0 of 3 stops: rank 2 of 3 on host-2 ended; it was reading a batch; the same command goes on "
        "from the newest checkpoint"
    )
    # It may lose touch itself; it does something else; it has only begun to wait.
    assert cut_off([died], waits, NOW + 1) is None
    assert cut_off([died], waits._replace(kind=Kind.WORKS), NOW + 2) is None
    assert cut_off([died], waits._replace(since_s=NOW + 1), NOW + 2) is None
    assert cut_off([left], waits, NOW + 2) is None


def test_what_a_process_does_is_noted_from_the_end_of_what_it_did_inside() -> None:
    activity.at("")
    with doing("reading a batch"):
        began_s = activity.current().since_s
        with waiting('exchange "step"'):
            assert activity.current()[:2] == (Kind.WAITS, 'waiting in exchange "step"')
        assert activity.current().what == "reading a batch"
        assert activity.current().since_s > began_s
    with doing("writing a checkpoint", Kind.UNHURRIED), inside('at work on "shards"'):
        assert activity.current()[:2] == (Kind.UNHURRIED, 'writing a checkpoint, at work on "shards"')


def test_to_compile_a_kernel_is_noted_as_unhurried() -> None:
    import numba

    seen = []
    note = activity.compiling

    def noted(more: bool) -> None:
        note(more)
        seen.append(activity.current().kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activity, "compiling", noted)
        numba.njit(lambda x: x + 1)(1)
    assert seen[0] is Kind.UNHURRIED
    assert activity.current().kind is not Kind.UNHURRIED


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Collects the messages with which threads of the watch would end the process."""
    messages: list[str | None] = []
    monkeypatch.setattr(watch, "end_now", messages.append)
    monkeypatch.setenv("HOROVOD_GLOO_IFACE", "lo")
    monkeypatch.setenv("HOROVOD_HOSTNAME", "host-a")
    return messages


@pytest.mark.slow
def test_the_hub_says_who_is_gone_and_lets_go_of_those_who_leave(ended: list[str | None]) -> None:
    first, second = Watch(0, 2, 60), Watch(1, 2, 60)
    address = first.address
    assert address.startswith("127.0.0.1 ")
    first.join(address)
    second.join(address)
    time.sleep(1)
    # Its process dies.
    assert second._client is not None
    second._client._say = lambda *_: None  # type: ignore[method-assign]
    second._client._closing.set()
    assert "rank 1 of 2 on host-a ended; it was " in first.trouble(10)
    first.close()
    assert ended == []


@pytest.mark.slow
def test_a_stranger_is_not_listened_to(ended: list[str | None]) -> None:
    hub = watch._Hub(2, 60)
    hub.start()
    host, port, _, name = hub.address.split(" ")
    stranger = watch._Client(f"{host} {port} wrong {name}", 1, 60)
    stranger.start()
    time.sleep(1)
    assert hub._peers == {}
    stranger.close()
    hub.close()


class Sleeper(torch.nn.Module):
    """A network of a user's own that, in the second rank's fifth step, sleeps in its forward pass."""

    def __init__(self, num_context_features: int, num_impression_features: int, dim: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(num_impression_features * dim, 1)
        self.steps = 0

    def forward(
        self, context: torch.Tensor, impression: torch.Tensor, group_index: torch.Tensor
    ) -> torch.Tensor:
        self.steps += self.training
        if self.steps > 4 and launched_rank() == 1:
            time.sleep(100)
        result: torch.Tensor = self.layer(impression.flatten(1)).squeeze(1)
        return result


class SlowReader(Sleeper):
    """Stands for storage that is slow for the second rank: its reads take long after some steps."""

    def __init__(self, num_context_features: int, num_impression_features: int, dim: int) -> None:
        super().__init__(num_context_features, num_impression_features, dim)
        self.steps = -1000
        take, taken = reader._Stream.take, []

        def take_slowly(self: reader._Stream, count: int) -> list[GroupSlice]:
            taken.append(count)
            if len(taken) > 10 and launched_rank() == 1:
                time.sleep(100)
            return take(self, count)

        reader._Stream.take = take_slowly  # type: ignore[method-assign]


@pytest.mark.horovod
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "phase"), [("Sleeper", "in its forward pass"), ("SlowReader", "reading a batch")]
)
def test_a_rank_that_sleeps_ends_all_ranks_and_is_named(new_run: NewRun, network: str, phase: str) -> None:
    config = new_run(stall_timeout_s=5, checkpoint_every_steps=0)
    result = run(2, config, f"model.network=tests.training.ranks.test_watch:{network}")
    assert "Exit code: 1" in result.stderr
    (line,) = told(result.stderr)
    found = re.fullmatch(
        r"error: the others have waited (\d+) s \(train\.stall_timeout_s = 5\) for rank 1 of 2 on localhost, "
        rf"which is {phase} at step \d+ of epoch 1 for \d+ s; all ranks stop; the same command goes on .*",
        line,
    )
    assert found, line
    assert 5 <= int(found[1]) <= 12


@pytest.mark.horovod
@pytest.mark.slow
def test_a_rank_that_is_stopped_gives_no_sign_and_ends_all_ranks(new_run: NewRun) -> None:
    config = new_run(stall_timeout_s=5, checkpoint_every_steps=3, epochs=200)
    model = config.parent / "model"
    result, took_s = run_and_signal(
        2, config, lambda: bool(steps_with_checkpoint(model)), signal.SIGSTOP, rank=1
    )
    assert result.returncode != 0
    (line,) = told(result.stderr)
    assert re.match(
        r"error: .*rank 1 of 2 on localhost gives no sign of life for \d+ s \(train\.stall_timeout_s = 5\)",
        line,
    ), line
    # 5 s of silence, and the end of the processes; a machine may have much else to do.
    assert took_s < 60
