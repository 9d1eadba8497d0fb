"""Who speaks when ranks fail, and the small parts around a run."""

import os
import socket
import subprocess
import sys
import time

import pytest

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.manifest import wrapped_sum
from esmm_spark.feed.plan import EpochPlan, RowGroup
from esmm_spark.runtime.progress import Silence
from esmm_spark.training.curve import Curve
from esmm_spark.training.progress import Progress, TensorBoardLog, Window
from esmm_spark.training.ranks import launch
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.state import TrainState
from tests.repository import ROOT


def test_only_ranks_after_the_first_wait_before_they_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_SECONDS_TO_BE_ENDED", 0.2)
    seconds = []
    for rank in ("0", "3"):
        monkeypatch.setenv("HOROVOD_RANK", rank)
        start = time.monotonic()
        with pytest.raises(InputError), launch.first_rank_speaks():
            raise InputError("no dataset")
        seconds.append(time.monotonic() - start)
    assert seconds[0] < 0.2 <= seconds[1]


def test_a_host_without_an_address_is_told_before_horovod_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(socket, "gethostname", lambda: "nobody")
    monkeypatch.delenv("HOROVOD_RANK", raising=False)
    launch.require_host_address("horovod")
    monkeypatch.setenv("HOROVOD_RANK", "0")
    with pytest.raises(
        ConfigError, match=r"^this host's name, nobody, has no address \(Name or .*/etc/hosts"
    ):
        launch.require_host_address("horovod")


@pytest.mark.parametrize(
    ("error", "rank", "expected"),
    [
        ("launch.FailedElsewhereError()", 0, ""),
        ("RankFailedError('rank 1 is gone')", 0, "error: rank 1 is gone\n"),
        ("RankFailedError('rank 1 is gone')", 5, ""),
    ],
)
def test_a_rank_that_ends_because_of_another_says_no_more_than_is_needed(
    error: str, rank: int, expected: str
) -> None:
    script = f"""
from esmm_spark.contracts.errors import RankFailedError
from esmm_spark.training.ranks import launch
launch._SECONDS_FOR_OTHERS = launch._SECONDS_TO_BE_ENDED = 0.0
launch.end_after_failure_elsewhere({error})
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HOROVOD_RANK": str(rank)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (1, expected)


def test_one_rank_needs_no_exchange() -> None:
    cluster = Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1)
    assert cluster.from_first(7, "x") == 7
    assert cluster.text_from_first("model", "x") == "model"
    assert cluster.together(lambda: "done", "x") == "done"


@pytest.mark.parametrize(
    ("values", "expected"),
    [((2**63 - 1, 1), -(2**63)), ((-(2**63), -1), 2**63 - 1), ((2**62,) * 4, 0), ((-3, 5), 2)],
)
def test_sums_of_hashes_wrap_as_64_bit_integers_do(values: tuple[int, ...], expected: int) -> None:
    assert wrapped_sum(*values) == expected


def test_the_curves_loss_is_the_mean_over_impressions_not_over_steps() -> None:
    window = Window()
    window.add(1.0, 300)
    window.add(2.0, 100)
    assert window.mean_loss == pytest.approx(1.25)


def test_the_last_line_of_an_epoch_has_the_epochs_own_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    # A second per step of 100 impressions, but the last of 250, which makes half a point of the curve, took
    # three: so did the window with it, and a third of the real rate was shown.
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    shown: list[float] = []
    monkeypatch.setattr(Progress, "step", lambda self, step, loss, speed: shown.append(speed))
    curve = Curve(Progress(Silence()), TensorBoardLog(None), Window(), None, Window())
    plan = EpochPlan([RowGroup("a", 0, 25_000, 25_000)], 1, batch_size=100, seed=0, epoch=0)
    state = TrainState(run_digest="", num_streams=1)
    for step in range(plan.num_steps):
        clock[0] += 3.0 if step == plan.num_steps - 1 else 1.0
        state.global_step += 1
        curve.add(0.5, 100)
        curve.record(step, plan, state)
    assert shown[-1] == pytest.approx(25_000 / 252)
    # In between, that of one to two points, never of a window just opened.
    assert shown[:-1] == pytest.approx([100.0] * 249)
