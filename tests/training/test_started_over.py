"""Runs of one models folder: which goes on, which starts over, and what is kept of the others."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.model import directory
from esmm_spark.training import checkpoint
from esmm_spark.training.loop import Trainer
from esmm_spark.training.resume import differences, run_content
from esmm_spark.training.run import train
from esmm_spark.training.state import TrainState
from esmm_spark.training.summary import metrics_line
from tests.synthetic_examples import rewrite, small_config
from tests.training.runs import newest_version, steps_with_checkpoint

COUNTS = PartitionCounts(
    groups=2,
    impressions=1000,
    positives={"click": 0, "conversion": 0},
    context_tokens=2,
    impression_tokens=2,
    group_hash_sum=7,
    files=[],
)


class KilledError(Exception):
    """Stands for a kill -9: nothing is written on the way out."""


@pytest.fixture
def folder(new_run: Callable[..., Path]) -> Path:
    return new_run().parent


def train_until(step: int, folder: Path, **settings: Any) -> None:
    """Trains until the run is killed after a step."""
    record = Trainer._record

    def record_or_die(self: Trainer, *arguments: Any) -> None:
        record(self, *arguments)
        if arguments[-1].global_step == step:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_record", record_or_die)
        with pytest.raises(KilledError):
            train(small_config(folder, **settings))


@pytest.mark.slow
def test_a_retry_of_a_run_started_over_goes_on_from_its_own_checkpoint(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, daily = folder / "model", {"resume": False, "checkpoint_every_steps": 3, "epochs": 1}
    train(small_config(folder, epochs=1))
    # Killed before it has a checkpoint, the new run leaves the old one's alone.
    train_until(2, folder, **daily)
    assert steps_with_checkpoint(model) == [16]
    # After its first, only the new run's are left; older steps than the old run's count as newer.
    train_until(5, folder, **daily)
    assert steps_with_checkpoint(model) == [3]
    capsys.readouterr()
    summary = train(small_config(folder, **daily))
    assert (
        f"resuming run 2 at epoch 1, step 3 from {model}/checkpoints/step-00000003" in capsys.readouterr().out
    )
    assert summary is not None
    assert "000002-" in summary
    # Published, it is over: the next day's job, the same command again, starts over.
    train_until(4, folder, **daily)
    state = checkpoint.read_state(str(model), steps_with_checkpoint(model)[-1])
    assert (state.run_number, state.global_step, state.started_over) == (3, 3, True)


def test_a_run_started_over_on_other_data_is_no_retry(own_dataset: Path) -> None:
    folder = own_dataset.parent
    daily = {"resume": False, "checkpoint_every_steps": 3, "epochs": 1}
    train_until(4, folder, **daily)
    # The next day's labels, as many of them.
    manifest = read_manifest(str(own_dataset))
    manifest.partitions["split=validation"].positives["click"] += 1
    rewrite(own_dataset / "manifest.json", manifest.model_dump_json())
    train_until(4, folder, **daily)
    assert checkpoint.read_state(str(folder / "model"), 3).run_number == 2
    # Nor is one whose state can't be read.
    rewrite(folder / "model/checkpoints/step-00000003/state.json", "{}")
    with pytest.raises(InputError, match=r"state\.json is no state of a run"):
        train(small_config(folder, **{**daily, "resume": True}))
    assert train(small_config(folder, **daily, max_steps=1)) is not None


def test_a_retry_publishes_what_a_run_started_over_had_trained_to_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daily = small_config(folder, resume=False, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(directory, "publish", lambda *_, **__: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            train(daily)
    trained = steps_with_checkpoint(folder / "model")
    summary = train(daily)
    assert summary is not None
    assert summary.startswith("already trained: model ")
    assert steps_with_checkpoint(folder / "model") == trained
    assert not list((folder / "model" / "checkpoints").glob("best*"))


def test_a_run_with_a_name_is_gone_on_with_by_its_name_alone(folder: Path) -> None:
    monday = {"run_id": "2026-11-23", "epochs": 1, "checkpoint_every_steps": 3, "resume": False}
    train_until(4, folder, **monday)
    summary = train(small_config(folder, **monday))
    assert summary is not None
    again = train(small_config(folder, **monday))
    assert again == (
        f"already trained: model {newest_version(folder / 'model')}; another train.run_id starts over"
    )
    with pytest.raises(ConfigError, match=r"train\.seed was 42, is 7: set another train\.run_id"):
        train(small_config(folder, **monday, seed=7))
    train_until(4, folder, **{**monday, "run_id": "2026-11-24"})
    state = checkpoint.read_state(str(folder / "model"), 3)
    assert (state.run_number, state.run_id) == (2, "2026-11-24")


@pytest.mark.slow
def test_the_summary_names_the_step_of_the_published_model(folder: Path) -> None:
    # Small batches, large rates: the first epochs are the best.
    summary = train(
        small_config(folder, epochs=30, early_stopping_epochs=2, embedding_learning_rate=1.0, batch_size=64)
    )
    published = directory.read_info(str(newest_version(folder / "model"))).step
    trained = steps_with_checkpoint(folder / "model")[-1]
    assert published < trained
    assert f" after {published} of {trained} steps, the best epoch's end, validation: " in str(summary)


@pytest.mark.parametrize(
    "gone", ["versions", "dense.safetensors", "embedding/shard-00000-of-00001.safetensors"]
)
def test_a_model_deleted_by_hand_is_told_with_the_way_to_train_it_again(folder: Path, gone: str) -> None:
    config = small_config(folder, epochs=1, max_steps=1)
    train(config)
    if gone == "versions":
        shutil.rmtree(folder / "model" / "versions")
    else:
        os.unlink(newest_version(folder / "model") / gone)
    with pytest.raises(InputError, match=r"its model was deleted, wholly or in part .*train\.resume=false"):
        train(config)
    assert train(small_config(folder, epochs=1, max_steps=1, resume=False)) is not None


def test_a_refused_checkpoint_names_the_keys_that_differ_and_no_others(folder: Path) -> None:
    linear = {"learning_rate_decay": "linear"}
    old = run_content(small_config(folder, **linear))
    new = run_content(small_config(folder, **linear, epochs=3, checkpoint_every_steps=7))
    assert differences(old, new) == ["train.epochs was 2, is 3"]
    constant = run_content(small_config(folder))
    assert differences(constant, new) == [
        "train.learning_rate_decay was none, is linear",
        "train.epochs was not set, is 3",
    ]
    assert run_content(small_config(folder, epochs=9)) == constant


def test_a_state_that_was_written_before_runs_had_numbers_is_of_the_first_run() -> None:
    state = TrainState.model_validate({"run_digest": "0", "num_streams": 4})
    assert (state.run_number, state.run_id, state.started_over) == (1, None, False)


def test_a_missing_auc_is_explained_by_the_labels() -> None:
    metrics: dict[str, float | None] = {"ctr_auc": None, "cvr_auc": None, "ctcvr_auc": None}
    assert (
        metrics_line(metrics, DEFAULT_TASKS, None, None) == "none (the dataset has no validation partition)"
    )
    assert metrics_line(metrics, DEFAULT_TASKS, "split=validation", COUNTS) == (
        "no CTR AUC: none of 1,000 impressions of split=validation has a click, "
        "no CVR AUC on clicks: 0 of its 0 impressions with a click have a conversion, "
        "no CTCVR AUC: none of 1,000 impressions of split=validation has a conversion"
    )
    unconverted = COUNTS.model_copy(update={"positives": {"click": 12, "conversion": 0}})
    assert metrics_line({**metrics, "ctr_auc": 0.75}, DEFAULT_TASKS, "ds=2026-11-23", unconverted) == (
        "CTR AUC 0.7500, no CVR AUC on clicks: 0 of its 12 impressions with a click have a conversion, "
        "no CTCVR AUC: none of 1,000 impressions of ds=2026-11-23 has a conversion"
    )
