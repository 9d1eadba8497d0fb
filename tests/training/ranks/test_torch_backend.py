"""Real torchrun processes: the model of Horovod's ranks and of one, and all ranks fail together."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from esmm_spark.training.run import train
from tests.synthetic_examples import small_config, write_config
from tests.training.conftest import SETTINGS
from tests.training.runs import (
    assert_same_model,
    corrupt_pages,
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
