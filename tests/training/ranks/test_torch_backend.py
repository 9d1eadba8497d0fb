"""Real torchrun processes: the model of Horovod's ranks and of one, and all ranks fail together."""

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from esmm_spark.contracts.schemas.run_record import RunRecord
from esmm_spark.training.run import train
from tests.repository import ROOT
from tests.synthetic_examples import small_config, write_config
from tests.training.conftest import SETTINGS
from tests.training.runs import (
    assert_same_model,
    command,
    corrupt_pages,
    environment,
    run,
    run_and_signal,
    steps_with_checkpoint,
    told,
)
from tests.training.test_ranks import TOLERANCE

pytestmark = [pytest.mark.horovod, pytest.mark.slow]

NewRun = Callable[..., Path]


def test_two_ranks_of_torch_train_the_model_of_two_of_horovod_and_of_one(
    new_run: NewRun, uninterrupted: Path
) -> None:
    config = new_run()
    model, of_torch = config.parent / "model", config.parent / "torch"
    result = run(2, config, backend="torch")
    assert result.returncode == 0, result.stderr
    assert "ranks: 2, torch.distributed over Gloo" in result.stdout + result.stderr
    assert sum("/2 validation: CTR AUC" in line for line in result.stdout.splitlines()) == 2
    model.rename(of_torch)
    assert run(2, config).returncode == 0
    assert_same_model(of_torch, model, TOLERANCE)
    assert_same_model(of_torch, uninterrupted, TOLERANCE)


def test_a_killed_rank_ends_the_job_and_a_rank_of_horovod_goes_on_to_the_same_model(
    new_run: NewRun, uninterrupted: Path
) -> None:
    config = new_run()
    model = config.parent / "model"
    result, seconds = run_and_signal(
        2, config, lambda: 20 in steps_with_checkpoint(model), signal.SIGKILL, rank=1, backend="torch"
    )
    assert result.returncode == 1
    assert seconds < 60
    (line,) = told(result.stderr)
    assert re.match(r"error: rank 0 of 2 stops: rank 1 of 2 on \S+ ended; it was ", line)
    assert not (model / "versions").exists()
    assert train(small_config(config.parent, **SETTINGS)) is not None
    assert_same_model(model, uninterrupted, TOLERANCE)


def test_sigterm_to_torchrun_leaves_a_checkpoint_from_which_two_ranks_go_on(
    new_run: NewRun, uninterrupted: Path
) -> None:
    config = new_run()
    model = config.parent / "model"
    result, _ = run_and_signal(
        2, config, lambda: 5 in steps_with_checkpoint(model), signal.SIGTERM, rank=None, backend="torch"
    )
    assert result.returncode != 0
    assert told(result.stderr) == []
    assert "the same command goes on from there" in result.stdout
    record = RunRecord.model_validate_json((config.parent / "model.run.json").read_text())
    assert (record.exit_code, record.error) == (143, "stopped by SIGTERM")
    newest = steps_with_checkpoint(model)[-1]
    assert newest < 32
    resumed = run(2, config, backend="torch")
    assert resumed.returncode == 0, resumed.stderr
    assert f"from {model}/checkpoints/step-{newest:08d}" in resumed.stdout
    assert_same_model(model, uninterrupted, TOLERANCE)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_stopped_gives_no_sign_and_ends_all_ranks(new_run: NewRun, rank: int) -> None:
    config = new_run(stall_timeout_s=5, checkpoint_every_steps=3, epochs=200)
    model = config.parent / "model"
    result, took_s = run_and_signal(
        2, config, lambda: bool(steps_with_checkpoint(model)), signal.SIGSTOP, rank=rank, backend="torch"
    )
    assert result.returncode == 1
    (line,) = told(result.stderr)
    silent = rf"error: .*rank {rank}( of 2)? on \S+ gives no sign of life for \d+ s "
    assert re.match(rf"{silent}\(train\.stall_timeout_s = 5\)", line), line
    # 5 s of silence, and 30 s until torchrun kills the rank that can't end.
    assert took_s < 60
    assert not (model / "versions").exists()


def test_after_a_killed_rank_torchrun_is_started_again_until_the_model_is_published(
    new_run: NewRun, uninterrupted: Path
) -> None:
    config = new_run()
    model = config.parent / "model"
    script = [str(ROOT / "scripts" / "train_until_done.sh"), "-n", "3", "-w", "0", "--"]
    result, _ = run_and_signal(
        2,
        config,
        lambda: 5 in steps_with_checkpoint(model),
        signal.SIGKILL,
        rank=1,
        backend="torch",
        before=script,
    )
    assert result.returncode == 0, result.stderr
    assert re.findall(r"train_until_done: (attempt \d of 3)$", result.stderr, re.MULTILINE) == [
        "attempt 1 of 3",
        "attempt 2 of 3",
    ]
    assert_same_model(model, uninterrupted, TOLERANCE)
    mistaken = subprocess.run(
        [*script, *command(2, config, "train.learning_rate=-1", backend="torch")],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(),
    )
    assert (mistaken.returncode, mistaken.stderr.count("train_until_done: attempt")) == (2, 1), (
        mistaken.stderr
    )
    assert mistaken.stderr.endswith("train_until_done: no other attempt would mend that\n")


def test_a_corrupt_file_ends_all_ranks_with_one_line_that_names_it(own_dataset: Path) -> None:
    path = own_dataset / "examples" / "split=train" / "part-00001.parquet"
    corrupt_pages(path)
    result = run(2, write_config(own_dataset.parent, **SETTINGS), backend="torch")
    assert result.returncode == 1
    assert re.search(r"exitcode *: 2 ", result.stderr)
    lines = told(result.stderr)
    assert lines
    assert all("split=train/part-00001.parquet, row group" in line for line in lines)


def test_a_rank_that_sleeps_ends_all_ranks_and_is_named(new_run: NewRun) -> None:
    config = new_run(stall_timeout_s=5, checkpoint_every_steps=0)
    network = "model.network=tests.training.ranks.test_watch:Sleeper"
    result = run(2, config, network, backend="torch")
    assert result.returncode == 1
    (line,) = told(result.stderr)
    assert re.match(
        r"error: the others have waited \d+ s \(train\.stall_timeout_s = 5\) for rank 1 of 2 on \S+, which "
        r"is in its forward pass at step \d+ of epoch 1 for \d+ s; all ranks stop",
        line,
    ), line
