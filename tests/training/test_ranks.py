"""Real horovodrun processes: two ranks equal one, and all ranks fail together."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esmm_spark.contracts.schemas.run_record import RunRecord
from esmm_spark.files.lease import leased
from esmm_spark.training.run import train
from tests.synthetic_examples import (
    random_groups,
    small_config,
    write_config,
    write_dataset,
    write_partition,
)
from tests.training.conftest import SETTINGS
from tests.training.runs import (
    assert_same_model,
    corrupt_pages,
    newest_version,
    run,
    run_and_signal,
    steps_with_checkpoint,
    told,
)

pytestmark = [pytest.mark.horovod, pytest.mark.slow]

NewRun = Callable[..., Path]
# Sums of float32 in another order, over 32 steps.
TOLERANCE = 2e-4


def test_two_ranks_train_the_model_of_one(new_run: NewRun, uninterrupted: Path) -> None:
    config = new_run()
    result = run(2, config)
    assert result.returncode == 0, result.stderr
    model = config.parent / "model"
    assert_same_model(model, uninterrupted, TOLERANCE)
    shards = sorted(path.name for path in (newest_version(model) / "embedding").iterdir())
    assert shards == [f"shard-0000{rank}-of-00002.safetensors" for rank in range(2)]
    # Rank 0 reports, without a prefix: scripts/build_horovod.sh leaves that to the others, who say nothing.
    assert "<stdout>" not in result.stdout
    assert sum("/2 validation: CTR AUC" in line for line in result.stdout.splitlines()) == 2
    assert "Warning" not in result.stderr


def test_one_rank_of_horovodrun_is_a_run_like_any_other(new_run: NewRun) -> None:
    config = new_run(**{**SETTINGS, "max_steps": 2})
    result = run(1, config, launched=True)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    newest_version(config.parent / "model")
    mistaken = run(1, config, "train.learning_rate=0.3", launched=True)
    # horovodrun ends with 1 whatever its ranks end with, and names theirs.
    assert (mistaken.returncode, "Exit code: 2" in mistaken.stderr) == (1, True), mistaken.stderr
    (line,) = told(mistaken.stderr)
    assert "train.learning_rate" in line
    assert "RuntimeError: cannot" not in mistaken.stderr


def test_a_rank_that_has_nothing_to_read_takes_part_in_every_step(new_run: NewRun) -> None:
    # One stream is read by rank 0; rank 1 still owns half of the rows.
    settings = {**SETTINGS, "num_streams": 1, "max_steps": 4}
    config = new_run(**settings)
    model, two = config.parent / "model", config.parent / "two"
    result = run(2, config)
    assert result.returncode == 0, result.stderr
    model.rename(two)
    assert train(small_config(config.parent, **settings)) is not None
    assert_same_model(two, model, TOLERANCE)


def test_a_rank_killed_mid_epoch_ends_the_job_and_one_rank_goes_on_to_the_same_model(
    new_run: NewRun, uninterrupted: Path
) -> None:
    config = new_run()
    model = config.parent / "model"
    result, seconds = run_and_signal(
        2, config, lambda: 20 in steps_with_checkpoint(model), signal.SIGKILL, rank=1
    )
    assert result.returncode != 0
    assert seconds < 60
    (line,) = told(result.stderr)
    assert line.startswith("error: rank 0 of 2 stops: rank 1 of 2 on localhost ended; it was ")
    record = RunRecord.model_validate_json((config.parent / "model.run.json").read_text())
    assert (record.exit_code, record.error) == (1, line.removeprefix("error: "))
    # Killed in the second epoch, after the checkpoint of 2 ranks at its fourth step.
    assert not (model / "versions").exists()
    done = steps_with_checkpoint(model)
    assert 20 <= done[-1] < 32
    assert train(small_config(config.parent, **SETTINGS)) is not None
    assert_same_model(model, uninterrupted, TOLERANCE)


def test_sigterm_to_horovodrun_leaves_a_checkpoint_from_which_two_ranks_go_on(
    new_run: NewRun, uninterrupted: Path
) -> None:
    config = new_run()
    model = config.parent / "model"
    result, _ = run_and_signal(
        2, config, lambda: 5 in steps_with_checkpoint(model), signal.SIGTERM, rank=None
    )
    assert "Exit code: 143" in result.stderr
    assert told(result.stderr) == []
    assert "the same command goes on from there" in result.stdout
    record = RunRecord.model_validate_json((config.parent / "model.run.json").read_text())
    assert (record.exit_code, record.error) == (143, "stopped by SIGTERM")
    newest = steps_with_checkpoint(model)[-1]
    assert f"checkpoint {model}/checkpoints/step-{newest:08d}" in result.stdout
    resumed = run(2, config)
    assert resumed.returncode == 0, resumed.stderr
    assert f"from {model}/checkpoints/step-{newest:08d}" in resumed.stdout
    assert_same_model(model, uninterrupted, TOLERANCE)


@pytest.mark.parametrize("partition", ["split=train", "split=validation"])
def test_a_corrupt_file_ends_all_ranks_with_one_line_that_names_it(own_dataset: Path, partition: str) -> None:
    path = own_dataset / "examples" / partition / "part-00001.parquet"
    corrupt_pages(path)
    result = run(2, write_config(own_dataset.parent, **SETTINGS))
    assert "Exit code: 2" in result.stderr
    lines = told(result.stderr)
    assert lines
    assert all(
        f"{partition}/part-00001.parquet, row group" in line and "preprocess again" in line for line in lines
    )


def test_a_nan_loss_stops_all_ranks_and_leaves_the_last_good_checkpoint(new_run: NewRun) -> None:
    config = new_run(learning_rate=1e30, checkpoint_every_steps=1)
    model = config.parent / "model"
    result = run(2, config)
    assert "Exit code: 1" in result.stderr
    lines = told(result.stderr)
    assert lines
    for line in lines:
        assert line.startswith("error: the loss is nan at step 2 (epoch 1, step 2 of it) on rank ")
        assert "context-1-" in line
        assert f"the last good checkpoint is {model}/checkpoints/step-00000001: " in line
    assert steps_with_checkpoint(model) == [1]


def test_two_ranks_are_refused_together_while_another_run_trains_there(new_run: NewRun) -> None:
    config = new_run()
    model = config.parent / "model"
    with leased(str(model / ".train.lease"), "paths.model"):
        result = run(2, config)
    assert "Exit code: 2" in result.stderr
    (line,) = told(result.stderr)
    assert line.startswith(f"error: paths.model {model} is being written by process {os.getpid()} of ")
    assert list(model.iterdir()) == []
    # The record is that of the run that trains there.
    assert not (config.parent / "model.run.json").exists()


def test_a_mistake_that_all_ranks_find_is_told_once(tmp_path: Path) -> None:
    groups: list[dict[str, Any]] = random_groups(20, seed=3)
    counts = write_partition(tmp_path / "dataset", "split=train", groups, [[20]])
    write_dataset(tmp_path / "dataset", {"split=train": counts})
    result = run(2, write_config(tmp_path))
    assert "Exit code: 2" in result.stderr
    (line,) = told(result.stderr)
    assert line.startswith("error: 1 row groups < 2 ranks in ")
    assert os.fspath(tmp_path / "dataset/examples/split=train") in line
