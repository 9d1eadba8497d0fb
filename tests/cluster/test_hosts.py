"""Training over several hosts: the model of one host, and all ranks end together when a host is lost."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.cluster import hosts
from tests.cluster.hosts import INTERFACE, Hosts
from tests.cluster.standalone import MOST_SECONDS, wait_until
from tests.repository import ROOT
from tests.synthetic_examples import write_config, write_small_dataset
from tests.training.runs import (
    TRAIN,
    assert_same_model,
    environment,
    newest_version,
    parameters,
    steps_with_checkpoint,
    told,
)

pytestmark = [pytest.mark.cluster, pytest.mark.horovod, pytest.mark.slow, pytest.mark.timeout(1200)]

SCRIPT = ROOT / "scripts" / "train_until_done.sh"
SETTINGS = {"epochs": 6, "checkpoint_every_steps": 5, "stall_timeout_s": 10}
# Which of three numbers are added first follows from what Horovod sends together: it shall send one by one.
ONE_BY_ONE = {"HOROVOD_FUSION_THRESHOLD": "0"}
# From a fault to the end of the last rank.
MOST_SECONDS_TO_END = 60


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Three hosts on one network."""
    if (reason := hosts.missing()) is not None:
        pytest.skip(reason)
    made = Hosts(3)
    yield made
    made.close()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset."""
    folder = tmp_path_factory.mktemp("hosts") / "dataset"
    write_small_dataset(folder)
    return folder


def new_config(folder: Path, dataset: Path, **settings: object) -> Path:
    """Makes `folder` with the dataset and a config of SETTINGS and `settings`; returns the config's path."""
    folder.mkdir(exist_ok=True)
    (folder / "dataset").symlink_to(dataset)
    return write_config(folder, **{**SETTINGS, **settings})


def start(network: Hosts, slots: str, config: Path) -> subprocess.Popen[str]:
    """Starts horovodrun on the first host; `slots` as in `-H`."""
    num_ranks = sum(int(host.partition(":")[2]) for host in slots.split(","))
    command = [str(Path(sys.executable).parent / "horovodrun"), "-np", str(num_ranks), "-H", slots]
    command += ["--network-interfaces", INTERFACE] if "," in slots else []
    command += [sys.executable, str(TRAIN), "--config", str(config)]
    return subprocess.Popen(
        network.command("h1", command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**environment(), **ONE_BY_ONE},
    )


def train(network: Hosts, slots: str, config: Path) -> Path:
    """Trains to the end and returns the models folder."""
    process = start(network, slots, config)
    output, errors = process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == 0, output + errors
    return config.parent / "model"


@pytest.fixture(scope="module")
def two_ranks_of_one_host(network: Hosts, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder of two ranks on one host."""
    return train(network, "h1:2", new_config(tmp_path_factory.mktemp("two"), dataset))


@pytest.fixture(scope="module")
def three_ranks_of_one_host(network: Hosts, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder of three ranks on one host."""
    return train(network, "h1:3", new_config(tmp_path_factory.mktemp("three"), dataset))


def require_same(ours: Path, theirs: Path) -> None:
    """Fails unless two models are the same, bit by bit."""
    expected = parameters(theirs)
    found = parameters(ours)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert np.array_equal(value, expected[name]), name
    for path in newest_version(theirs).rglob("*.safetensors"):
        own = newest_version(ours) / path.relative_to(newest_version(theirs))
        assert own.read_bytes() == path.read_bytes(), path.name


def test_two_hosts_train_the_model_of_one_to_the_bit(
    network: Hosts, dataset: Path, two_ranks_of_one_host: Path, tmp_path: Path
) -> None:
    require_same(train(network, "h1:1,h2:1", new_config(tmp_path, dataset)), two_ranks_of_one_host)


def test_three_hosts_train_the_model_of_one_to_the_bit(
    network: Hosts, dataset: Path, three_ranks_of_one_host: Path, tmp_path: Path
) -> None:
    ours = train(network, "h1:1,h2:1,h3:1", new_config(tmp_path, dataset))
    require_same(ours, three_ranks_of_one_host)


@pytest.mark.parametrize("fault", ["link down", "rank stopped", "rank killed"])
def test_a_lost_rank_of_another_host_ends_all_and_the_hosts_that_are_left_go_on(
    network: Hosts, dataset: Path, three_ranks_of_one_host: Path, tmp_path: Path, fault: str
) -> None:
    config = new_config(tmp_path, dataset)
    model = config.parent / "model"
    process = start(network, "h1:1,h2:1,h3:1", config)
    wait_until(lambda: bool(steps_with_checkpoint(model)), "the first checkpoint", [process])
    (lost,) = network.ranks("h3")
    began_s = time.monotonic()
    try:
        if fault == "link down":
            network.set_link("h3", "down")
        else:
            os.kill(lost.pid, signal.SIGSTOP if fault == "rank stopped" else signal.SIGKILL)
        _, errors = process.communicate(timeout=MOST_SECONDS)
        if fault == "rank stopped":
            # Until it may run again it can do nothing, not even end.
            lost.resume()
        psutil.wait_procs([lost], timeout=100)
        left_s = began_s + MOST_SECONDS_TO_END - time.monotonic()
        wait_until(lambda: not any(map(network.ranks, network.names)), "all ranks end", timeout_s=left_s)
    finally:
        network.set_link("h3", "up")
    assert process.returncode != 0
    assert any(re.search(r"\brank 2 of 3 on h3\b", line) for line in told(errors)), errors
    assert not (model / "versions").exists()
    require_same(train(network, "h1:1,h2:2", config), three_ranks_of_one_host)


def test_training_goes_on_until_the_model_is_published_on_the_hosts_that_answer(
    network: Hosts, dataset: Path, two_ranks_of_one_host: Path, tmp_path: Path
) -> None:
    config = new_config(tmp_path, dataset)
    model = config.parent / "model"
    options = ["-H", "h1:1,h2:1", "-n", "5", "-w", "1", "-i", INTERFACE, "--"]
    process = subprocess.Popen(
        network.command("h1", [str(SCRIPT), *options, sys.executable, str(TRAIN), "--config", str(config)]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    wait_until(lambda: bool(steps_with_checkpoint(model)), "the first checkpoint", [process])
    network.crash("h2")
    before = steps_with_checkpoint(model)
    wait_until(lambda: steps_with_checkpoint(model)[-1:] > before[-1:], "h1 goes on alone", [process])
    network.come_back("h2")
    for rank in network.ranks("h1"):
        rank.kill()
    _, errors = process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == 0, errors
    attempts = re.findall(r"train_until_done: attempt (\d) of 5 on (\S+)", errors)
    assert attempts == [("1", "h1:1,h2:1"), ("2", "h1:1"), ("3", "h1:1,h2:1")], errors
    # One rank adds in another order.
    assert_same_model(model, two_ranks_of_one_host, 1e-4)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-H", "localhost:1", "--", "sh", "-c", "exit 2"], "no other attempt would mend that"),
        (["-H", "nowhere.invalid:1", "-n", "2", "-w", "0", "--", "true"], "given up after 2 attempts"),
    ],
)
def test_what_another_attempt_would_not_mend_is_not_tried_again_and_others_only_so_often(
    arguments: list[str], line: str
) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**environment(), "PATH": path},
    )
    assert done.returncode == (2 if "mend" in line else 1), done.stderr
    assert done.stderr.splitlines()[-1] == f"train_until_done: {line}"
    assert len(re.findall(r": attempt \d of", done.stderr)) == (1 if "mend" in line else 2)
