"""Training runs as a user starts them, and what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.train_config import Backend
from esmm_spark.model import directory
from esmm_spark.training.loop import Trainer
from esmm_spark.training.run import train
from tests.repository import ROOT

TRAIN = ROOT / "esmm_spark" / "train.py"


def command(
    num_ranks: int, config: Path, *overrides: str, launched: bool = False, backend: Backend = "horovod"
) -> list[str]:
    """Returns the command of a run on this host; its ranks talk over the loopback interface only.

    One rank is a plain process unless it is to be `launched` by horovodrun, too.
    """
    if backend == "torch":
        torchrun = [str(Path(sys.executable).parent / "torchrun"), "--standalone"]
        torchrun += [f"--nproc-per-node={num_ranks}", str(TRAIN), "--config", str(config)]
        return [*torchrun, "train.backend=torch", *overrides]
    horovodrun = Path(sys.executable).parent / "horovodrun"
    launcher = [str(horovodrun), "-np", str(num_ranks), "-H", f"localhost:{num_ranks}"]
    launcher += ["--network-interfaces", "lo"]
    train = [sys.executable, str(TRAIN), "--config", str(config), *overrides]
    return (launcher if num_ranks > 1 or launched else []) + train


def run(
    num_ranks: int, config: Path, *overrides: str, launched: bool = False, backend: Backend = "horovod"
) -> subprocess.CompletedProcess[str]:
    """Runs to the end."""
    return subprocess.run(
        command(num_ranks, config, *overrides, launched=launched, backend=backend),
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(),
        check=False,
    )


def run_and_signal(
    num_ranks: int,
    config: Path,
    ready: Callable[[], bool],
    number: signal.Signals,
    rank: int | None,
    backend: Backend = "horovod",
    before: Sequence[str] = (),
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Runs until `ready`, sends a signal, and returns the finished run and the seconds that it then took.

    Args:
        num_ranks: ranks.
        config: the config.
        ready: asked every few milliseconds.
        number: the signal.
        rank: the rank that gets it, or None for the process that starts them.
        backend: of the ranks.
        before: what stands before the command.
    """
    with subprocess.Popen(
        [*before, *command(num_ranks, config, backend=backend)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        deadline = time.monotonic() + 200
        while not ready():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid if rank is None else _process_of_rank(config, rank), number)
        start = time.monotonic()
        output, errors = process.communicate(timeout=100)
    finished = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    return finished, time.monotonic() - start


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes SIGTERM come during a step of the runs of this process."""
    record = Trainer._record

    def record_and_send(self: Trainer, *arguments: Any) -> None:
        record(self, *arguments)
        if arguments[-1].global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_record", record_and_send)


def stop_and_resume(config: Config, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains until SIGTERM comes during a step, then the rest, from another random state."""
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(SystemExit):
            train(config)
    torch.manual_seed(99)
    assert train(config) is not None


def assert_same_to_the_bit(ours: Path, theirs: Path) -> None:
    """Asserts that the newest versions of two models folders have the same parameters and training curve."""
    found, expected = (
        {name: value.tobytes() for name, value in parameters(model).items()} for model in (ours, theirs)
    )
    assert found == expected
    assert curve(ours) == curve(theirs)


def steps_with_checkpoint(model: Path) -> list[int]:
    """Returns the steps of the complete checkpoints."""
    return sorted(int(path.parent.name[5:]) for path in model.glob("checkpoints/step-*/_SUCCESS"))


def newest_version(model: Path) -> Path:
    """Returns the newest published model directory."""
    return Path(directory.find_model(str(model)))


def curve(model: Path) -> list[tuple[int, float]]:
    """Returns (step, loss) of the training curve of the newest version."""
    history = json.loads((newest_version(model) / "history.json").read_text())
    return [(point["step"], point["loss"]) for point in history["steps"]]


def metrics(model: Path) -> dict[str, float]:
    """Returns the validation metrics of the newest version."""
    content: dict[str, float] = json.loads((newest_version(model) / "metrics.json").read_text())
    return content


def parameters(model: Path) -> dict[str, npt.NDArray[Any]]:
    """Returns all parameters of the newest version, the embedding in the arena's order."""
    version = str(newest_version(model))
    info = directory.read_info(version)
    dense = {name: value.numpy() for name, value in directory.load_dense(version, info).state_dict().items()}
    return {**dense, "rows": directory.open_rows(version, info).gather(np.arange(info.num_rows))}


def assert_same_model(ours: Path, theirs: Path, tolerance: float) -> None:
    """Fails unless the curves, metrics and parameters of two runs agree within `tolerance`."""
    assert [step for step, _ in curve(ours)] == [step for step, _ in curve(theirs)]
    np.testing.assert_allclose(curve(ours), curve(theirs), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        list(metrics(ours).values()), list(metrics(theirs).values()), rtol=10 * tolerance, err_msg="metrics"
    )
    expected = parameters(theirs)
    for name, value in parameters(ours).items():
        np.testing.assert_allclose(value, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


def corrupt_pages(path: Path) -> None:
    """Overwrites the pages of all row groups of a file, not its footer: they fail when a rank reads them."""
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    path.write_bytes(content)


def told(errors: str) -> list[str]:
    """Returns the lines that our ranks wrote to stderr, without horovodrun's prefix and own lines."""
    lines = [line.partition("<stderr>:")[2] or line for line in errors.splitlines()]
    return [line for line in lines if line.startswith("error: ")]


def environment() -> dict[str, str]:
    """Returns the environment of a run."""
    loopback = {"GLOO_SOCKET_IFNAME": "lo"}  # horovodrun sets Horovod's own
    return {**os.environ, **loopback, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def _process_of_rank(config: Path, rank: int) -> int:
    """Returns the process id of a rank of the run with `config`."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        is_ours = arguments[0] == sys.executable.encode() and str(config).encode() in arguments
        of_rank = {f"HOROVOD_RANK={rank}".encode(), f"RANK={rank}".encode()}
        if is_ours and of_rank & set(environment):
            return int(folder.name)
    raise AssertionError(f"no process of rank {rank} runs with {config}")
