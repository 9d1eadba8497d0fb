"""Processes that are no ranks, and ranks that are about to train something else."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.train_config import Backend
from esmm_spark.training.ranks.agreement import _facts, disagreement
from esmm_spark.training.ranks.launch import is_launched, launched_rank, refuse_foreign_launcher
from tests.synthetic_examples import small_config
from tests.training.runs import command, environment, told
from tests.training.test_started_over import COUNTS

SLURM_BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("variables", "launcher", "variable", "rank"),
    [
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, "torchrun", "WORLD_SIZE = 2", 1),
        ({**SLURM_BATCH, "SLURM_STEP_ID": "0", "SLURM_PROCID": "3"}, "srun", "SLURM_NTASKS = 4", 3),
        ({**SLURM_BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}, "srun", "NUM_TASKS = 2", 0),
        ({"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5"}, "mpirun", "OMPI_COMM_WORLD_SIZE = 8", 5),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, "mpirun", "PMI_SIZE = 2", 1),
    ],
)
def test_several_processes_of_another_launcher_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], launcher: str, variable: str, rank: int
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError, match=rf"^{launcher} started . processes \(.*{variable}\).*horovodrun -np"
    ):
        refuse_foreign_launcher("horovod")
    # Only the first one tells at once.
    assert launched_rank() == rank
    monkeypatch.setenv("HOROVOD_SIZE", "2")
    monkeypatch.setenv("HOROVOD_RANK", "0")
    refuse_foreign_launcher("horovod")
    assert launched_rank() == 0


@pytest.mark.parametrize("backend", ["horovod", "torch"])
@pytest.mark.parametrize(
    "variables",
    [
        SLURM_BATCH,
        # An interactive step, one process of an allocation of four.
        {**SLURM_BATCH, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"WORLD_SIZE": ""},
    ],
)
def test_one_process_is_one_rank_whatever_started_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], backend: Backend
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    refuse_foreign_launcher(backend)
    assert launched_rank() == 0


def test_a_launcher_of_the_other_backend_is_refused_and_both_remedies_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("HOROVOD_SIZE", "2")
        patch.setenv("HOROVOD_RANK", "1")
        with pytest.raises(
            ConfigError,
            match=r"^horovodrun started 2 processes \(HOROVOD_SIZE = 2\), of which train\.backend = torch "
            r"knows .*`torchrun --standalone --nproc-per-node 2 .*, or, set train\.backend=horovod, or",
        ):
            refuse_foreign_launcher("torch")
        assert launched_rank() == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match=r"`horovodrun -np 2 .*, or, set train\.backend=torch, or"):
        refuse_foreign_launcher("horovod")
    refuse_foreign_launcher("torch")
    assert is_launched("torch")
    assert not is_launched("horovod")


@pytest.mark.slow
def test_the_command_refuses_torchrun_in_one_line(new_run: Callable[..., Path]) -> None:
    config = new_run()
    result = subprocess.run(
        command(1, config),
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment(), "WORLD_SIZE": "2", "RANK": "0"},
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: torchrun started 2 processes")
    assert not (config.parent / "model").exists()


def test_what_differs_between_ranks_is_named(tmp_path: Path) -> None:
    facts = _facts(small_config(tmp_path), COUNTS)
    assert {"train.learning_rate", "model.hidden_units", "torch", "paths.dataset"} <= set(facts)
    other = {**facts, "torch": "2.12.0"}
    assert disagreement([facts, facts, other]) == (
        f"the ranks don't train the same: torch is '2.12.0' on rank 2 and '{facts['torch']}' on rank 0: "
        "start all of them with one command, from one environment"
    )
    for key, digest in (
        ("network", "the network's code (digest)"),
        ("objective", "the loss's code (digest)"),
    ):
        assert facts[digest] == ""
        own = [
            _facts(small_config(tmp_path).model_copy(update={"model": model}), COUNTS)
            for model in [
                small_config(tmp_path).model.model_copy(update={key: f"tests.training.{module}:Own"})
                for module in ("runs", "test_build")
            ]
        ]
        assert own[0][digest] != own[1][digest]


@pytest.mark.horovod
@pytest.mark.slow
def test_ranks_with_other_learning_rates_are_refused_before_they_train(new_run: Callable[..., Path]) -> None:
    config = new_run()
    *launcher, python, script, flag, path = command(2, config)
    own_rate = f"exec {python} {script} {flag} {path} train.learning_rate=0.0$((HOROVOD_RANK + 1))"
    result = subprocess.run(
        [*launcher, "sh", "-c", own_rate], capture_output=True, text=True, timeout=120, env=environment()
    )
    assert "Exit code: 2" in result.stderr
    (line,) = told(result.stderr)
    assert line.startswith(
        "error: the ranks don't train the same: train.learning_rate is 0.02 on rank 1 and 0.01 on rank 0: "
    )
    assert not (config.parent / "model").exists()
