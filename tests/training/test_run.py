"""Whole runs on one rank, in this process: stopping, resuming, the best model, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import (
    ConfigError,
    CountMismatchError,
    IncompleteError,
    InputError,
    LeaseLostError,
    NonFiniteLossError,
    SpecMismatchError,
    TargetBusyError,
    UnsafeFileError,
    UserError,
)
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.contracts.train_config import Model
from esmm_spark.files.lease import leased
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.files.tensor_file import write_tensors
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import Esmm
from esmm_spark.training import checkpoint
from esmm_spark.training.finite import not_finite
from esmm_spark.training.run import train
from tests.files.disks import read_only_folder
from tests.repository import ROOT
from tests.synthetic_examples import config_content, of_before, rewrite, small_config
from tests.training.conftest import SETTINGS
from tests.training.runs import (
    TRAIN,
    assert_same_model,
    curve,
    metrics,
    newest_version,
    parameters,
    steps_with_checkpoint,
    stop_at,
)

NewRun = Callable[..., Path]
EXACT = 1e-7


@pytest.fixture
def folder(new_run: NewRun) -> Path:
    """A folder with the dataset, in which `small_config` trains."""
    return new_run().parent


@pytest.mark.slow
def test_a_run_leaves_a_complete_version_with_its_history(uninterrupted: Path) -> None:
    version = newest_version(uninterrupted)
    assert sorted(path.name for path in version.iterdir()) == [
        "_SUCCESS",
        "config.yaml",
        "dense.safetensors",
        "embedding",
        "history.json",
        "metrics.json",
        "model.json",
    ]
    history = json.loads((version / "history.json").read_text())
    assert [point["step"] for point in history["steps"]] == list(range(1, 33))
    assert [(e["epoch"], e["step"]) for e in history["epochs"]] == [(0, 16), (1, 32)]
    losses = [loss for _, loss in curve(uninterrupted)]
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.05
    assert metrics(uninterrupted)["ctcvr_auc"] > 0.7
    config = Config.model_validate(yaml.safe_load((version / "config.yaml").read_text()))
    assert config.train.checkpoint_every_steps == 5


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    folder: Path, uninterrupted: Path
) -> None:
    train(small_config(folder, **SETTINGS))
    assert_same_model(folder / "model", uninterrupted, EXACT)
    train(small_config(folder, **SETTINGS, seed=7, resume=False))
    assert np.abs(parameters(folder / "model")["rows"] - parameters(uninterrupted)["rows"]).max() > 1e-3


@pytest.mark.parametrize("step", [3, 16, 21])
@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_from_which_the_run_goes_on_to_the_same_model(
    folder: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    config = small_config(folder, **{**SETTINGS, "checkpoint_every_steps": 0})
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(SystemExit) as stopped:
            train(config)
    assert stopped.value.code == 143
    # In the step after the signal, or between two batches of the validation after the epoch's last step.
    assert steps_with_checkpoint(folder / "model")[-1] == (step if step == 16 else step + 1)
    assert not (folder / "model" / "versions").exists()
    assert train(config) is not None
    assert_same_model(folder / "model", uninterrupted, EXACT)


@pytest.mark.slow
def test_a_killed_checkpoint_leaves_the_previous_one_whole(folder: Path, uninterrupted: Path) -> None:
    # A real kill -9, in the middle of the third checkpoint.
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import Esmm
from esmm_spark.training import checkpoint
from esmm_spark.training.finite import not_finite
from esmm_spark.training.run import train
from tests.synthetic_examples import small_config
from tests.training.conftest import SETTINGS
write, written = checkpoint.write_tensors, []
def write_or_die(uri, tensors):
    written.append(uri)
    if len(written) == 3:
        with open(uri, "wb") as file:
            file.write(b"half of it")
        os.kill(os.getpid(), 9)
    write(uri, tensors)
checkpoint.write_tensors = write_or_die
train(small_config(__import__("pathlib").Path({str(folder)!r}), **SETTINGS))
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    model = folder / "model"
    assert steps_with_checkpoint(model) == [5, 10]
    assert len(list(model.glob("checkpoints/.step-00000015.*.staging"))) == 1
    assert train(small_config(folder, **SETTINGS)) is not None
    assert_same_model(model, uninterrupted, EXACT)
    assert [path.name for path in (model / "checkpoints").iterdir() if path.name.startswith(".")] == []


def test_a_full_disk_is_told_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", refuse)
    with pytest.raises(
        UserError,
        match=r"no room to write paths\.model .*step-00000005, .*No space left on device: make room",
    ):
        train(small_config(folder, **SETTINGS))
    assert steps_with_checkpoint(folder / "model") == []


def test_a_models_folder_that_cant_be_written_is_told_before_the_first_step(folder: Path) -> None:
    config = small_config(folder, **{**SETTINGS, "tensorboard": True})
    with (
        read_only_folder(folder / "model"),
        pytest.raises(UserError, match=r"refuses while paths\.model .*/model is written: "),
    ):
        train(config)
    (folder / "model" / "tensorboard").write_text("a file")
    with pytest.raises(UserError, match=r"paths\.model .*/model/tensorboard is a file: name a folder"):
        train(config)
    assert [path.name for path in (folder / "model").iterdir()] == ["tensorboard"]


def test_a_second_run_on_one_models_folder_is_refused(folder: Path) -> None:
    config = small_config(folder, **SETTINGS)
    with (
        leased(str(folder / "model" / ".train.lease"), "paths.model"),
        pytest.raises(TargetBusyError, match=r"paths\.model .*/model is being written by process"),
    ):
        train(config)
    assert list((folder / "model").iterdir()) == []


def test_a_run_that_lost_its_lease_publishes_no_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = write_tensors

    def write_suspended(uri: str, tensors: Any) -> None:
        (folder / "model" / ".train.lease").write_text("another run's")
        write(uri, tensors)

    monkeypatch.setattr(checkpoint, "write_tensors", write_suspended)
    with pytest.raises(LeaseLostError):
        train(small_config(folder, **SETTINGS))
    assert steps_with_checkpoint(folder / "model") == []


@pytest.mark.slow
def test_only_the_newest_checkpoints_are_kept(folder: Path) -> None:
    train(small_config(folder, **{**SETTINGS, "keep_checkpoints": 2}))
    assert steps_with_checkpoint(folder / "model") == [30, 32]


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again_but_goes_on_to_more_epochs(
    folder: Path, uninterrupted: Path
) -> None:
    first = train(small_config(folder, **{**SETTINGS, "epochs": 1}))
    again = train(small_config(folder, **{**SETTINGS, "epochs": 1}))
    assert first is not None
    assert again is not None
    assert again.startswith("already trained: model ")
    assert train(small_config(folder, **SETTINGS)) is not None
    assert_same_model(folder / "model", uninterrupted, EXACT)


@pytest.mark.slow
def test_max_steps_cuts_an_epoch_that_a_longer_run_goes_on_with(folder: Path, uninterrupted: Path) -> None:
    train(small_config(folder, **SETTINGS, max_steps=7))
    assert curve(folder / "model")[-1][0] == 7
    train(small_config(folder, **SETTINGS))
    ours, theirs = parameters(folder / "model"), parameters(uninterrupted)
    assert {name: np.abs(ours[name] - theirs[name]).max() < EXACT for name in theirs} == dict.fromkeys(
        theirs, True
    )


def test_a_run_stopped_in_its_last_step_trains_no_further(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(folder, **{**SETTINGS, "checkpoint_every_steps": 0}, max_steps=7)
    with monkeypatch.context() as patch:
        stop_at(6, patch)
        with pytest.raises(SystemExit):
            train(config)
    assert steps_with_checkpoint(folder / "model") == [7]
    assert train(config) is not None
    assert steps_with_checkpoint(folder / "model")[-1] == 7
    assert curve(folder / "model")[-1][0] == 7


@pytest.mark.slow
def test_training_stops_early_and_publishes_the_best_epochs_model(folder: Path) -> None:
    # Small batches, large rates: the model soon knows its training data by heart.
    settings = {"epochs": 30, "early_stopping_epochs": 2, "embedding_learning_rate": 1.0, "batch_size": 64}
    train(small_config(folder, **settings))
    version = newest_version(folder / "model")
    epochs = json.loads((version / "history.json").read_text())["epochs"]
    aucs = [epoch["ctcvr_auc"] for epoch in epochs]
    best = int(np.argmax(aucs))
    assert len(epochs) == best + 3 < 30
    assert metrics(folder / "model")["ctcvr_auc"] == aucs[best]
    assert json.loads((version / "model.json").read_text())["step"] == epochs[best]["step"]
    # The parameters are those of that epoch, too.
    (folder / "model").rename(folder / "whole")
    train(small_config(folder, **{**settings, "epochs": best + 1}))
    assert parameters(folder / "model")["rows"].tobytes() == parameters(folder / "whole")["rows"].tobytes()


@pytest.mark.slow
def test_bf16_trains_close_to_float32(folder: Path, uninterrupted: Path) -> None:
    train(small_config(folder, **SETTINGS, bf16=True))
    losses, expected = curve(folder / "model"), curve(uninterrupted)
    assert losses != expected
    np.testing.assert_allclose(losses, expected, atol=0.05)
    assert metrics(folder / "model")["ctcvr_auc"] == pytest.approx(
        metrics(uninterrupted)["ctcvr_auc"], abs=0.02
    )


@pytest.mark.parametrize("model", [{"objective": "base"}, {"network": "dcn"}])
@pytest.mark.slow
def test_other_objectives_and_networks_train_too(folder: Path, model: dict[str, str]) -> None:
    content = config_content(folder, **SETTINGS)
    content["model"].update(model)
    train(Config.model_validate(content))
    losses = [loss for _, loss in curve(folder / "model")]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])


class Forgetful(torch.nn.Module):
    """A network of a user's own with dropout, which draws from torch's random state in every step."""

    def __init__(self, num_context_features: int, num_impression_features: int, dim: int) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)
        self.layer = torch.nn.Linear(num_impression_features * dim, 1)

    def forward(
        self, context: torch.Tensor, impression: torch.Tensor, group_index: torch.Tensor
    ) -> torch.Tensor:
        result: torch.Tensor = self.layer(self.dropout(impression.flatten(1))).squeeze(1)
        return result


@pytest.mark.slow
def test_a_resumed_run_drops_out_what_an_uninterrupted_one_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = config_content(folder, **{**SETTINGS, "checkpoint_every_steps": 0})
    content["model"]["network"] = "tests.training.test_run:Forgetful"
    config = Config.model_validate(content)
    train(config)
    whole = parameters(folder / "model")
    shutil.rmtree(folder / "model")
    with monkeypatch.context() as patch:
        stop_at(3, patch)
        with pytest.raises(SystemExit):
            train(config)
    torch.manual_seed(99)
    train(config)
    resumed = parameters(folder / "model")
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


class Headless(torch.nn.Module):
    """A network of a user's own that forgets to make one logit of its last layer."""

    def __init__(self, num_context_features: int, num_impression_features: int, dim: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(num_impression_features * dim, 3)

    def forward(
        self, context: torch.Tensor, impression: torch.Tensor, group_index: torch.Tensor
    ) -> torch.Tensor:
        result: torch.Tensor = self.layer(impression.flatten(1))
        return result


def test_a_network_without_one_logit_per_impression_is_refused_before_training(folder: Path) -> None:
    content = config_content(folder, **SETTINGS)
    content["model"]["network"] = "tests.training.test_run:Headless"
    with pytest.raises(ConfigError, match=r"network Headless gave logits of shape \(3, 3\)"):
        train(Config.model_validate(content))


@pytest.mark.slow
def test_tensorboard_logs_the_curve_and_the_validation(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(small_config(folder, **SETTINGS, tensorboard=True))
    events = EventAccumulator(str(folder / "model" / "tensorboard"))
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"train/loss", "validation/ctcvr_auc"} <= set(tags)
    assert [event.step for event in events.Tensors("validation/ctcvr_auc")] == [16, 32]


def test_a_nan_loss_names_step_groups_and_the_last_checkpoint(folder: Path) -> None:
    config = small_config(folder, **{**SETTINGS, "learning_rate": 1e30, "checkpoint_every_steps": 1})
    with pytest.raises(NonFiniteLossError) as caught:
        train(config)
    message = str(caught.value)
    assert "the loss is nan at step 2 (epoch 1, step 2 of it) on rank 0" in message
    assert message.count("context-1-") == 5
    assert f"the last good checkpoint is {folder}/model/checkpoints/step-00000001: " in message
    assert steps_with_checkpoint(folder / "model") == [1]


def test_no_checkpoint_is_written_of_parameters_that_are_not_finite(folder: Path) -> None:
    config = small_config(folder, **{**SETTINGS, "checkpoint_every_steps": 1})
    # No config may say so any more.
    rates = config.train.model_copy(update={"embedding_learning_rate": 2e38})
    config = config.model_copy(update={"train": rates})
    told = (
        r"a parameter of the embedding became NaN or infinite in \d+ of 320 rows before step 2; no checkpoint"
    )
    with pytest.raises(NonFiniteLossError, match=told):
        train(config)
    assert steps_with_checkpoint(folder / "model") == []


def test_no_checkpoint_is_written_of_a_state_that_is_not_finite(own_dataset: Path) -> None:
    # A weight whose square is beyond float32 makes its row's state infinite: the row would never move again.
    path = own_dataset / "examples/split=train/part-00000.parquet"
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(index).to_pylist() for index in range(file.num_row_groups)]
    groups[0][0]["context_weights"][0] = 3e38
    with pq.ParquetWriter(path, file.schema_arrow) as writer:
        for rows in groups:
            writer.write_table(pa.Table.from_pylist(rows, file.schema_arrow), row_group_size=len(rows))
    manifest = read_manifest(str(own_dataset))
    manifest.partitions["split=train"] = of_before(manifest.partitions["split=train"])
    rewrite(own_dataset / "manifest.json", manifest.model_dump_json())
    config = small_config(own_dataset.parent, **{**SETTINGS, "checkpoint_every_steps": 0})
    with pytest.raises(
        NonFiniteLossError, match=r"Adagrad state \(accumulator\) became NaN or infinite in \d+ of 320 rows"
    ):
        train(config)
    assert not (own_dataset.parent / "model" / "versions").exists()


def test_adams_moments_and_buffers_must_be_finite_too() -> None:
    esmm = Esmm([torch.nn.BatchNorm1d(2), torch.nn.Identity()], resolve(Model(), [], DEFAULT_TASKS))
    arena = EmbeddingArena(3, 2, optimizer=RowOptimizer(0.1), init_range=0.1, seed=1)
    adam = torch.optim.Adam(esmm.parameters())
    torch.stack([p.sum() for p in esmm.parameters()]).sum().backward()
    adam.step()
    assert not_finite(arena, esmm, adam) == ""
    moments = adam.state[next(esmm.parameters())]["exp_avg_sq"]
    moments[1] = float("inf")
    assert not_finite(arena, esmm, adam) == (
        "Adam's exp_avg_sq of towers.0.weight became NaN or infinite in 1 of 2 rows"
    )
    moments[1] = 0
    cast(torch.nn.BatchNorm1d, esmm.towers[0]).running_var[0] = float("nan")  # type: ignore[index]
    assert not_finite(arena, esmm, adam).startswith("buffer towers.0.running_var became NaN")


@pytest.mark.slow
def test_a_run_with_other_settings_does_not_go_on_from_a_checkpoint(folder: Path) -> None:
    train(small_config(folder, **SETTINGS, max_steps=5))
    changed = (
        r"step-00000005 is of another run: train\.learning_rate was 0\.01, is 0\.02: set train\.resume=false"
    )
    with pytest.raises(ConfigError, match=changed):
        train(small_config(folder, **{**SETTINGS, "learning_rate": 0.02}))
    with pytest.raises(ConfigError, match=r"num_streams = 4, the config says 8"):
        train(small_config(folder, **{**SETTINGS, "num_streams": 8}))
    assert train(small_config(folder, **{**SETTINGS, "learning_rate": 0.02, "resume": False})) is not None


def test_a_damaged_checkpoint_is_named(folder: Path) -> None:
    train(small_config(folder, **SETTINGS, max_steps=5))
    saved = Path(checkpoint.checkpoint_uri(str(folder / "model"), 5))
    content = (saved / "optimizer.safetensors").read_bytes()
    (saved / "optimizer.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"step-00000005/optimizer\.safetensors is corrupt or cut short"):
        train(small_config(folder, **SETTINGS))
    (saved / "evil.pkl").touch()
    with pytest.raises(UnsafeFileError, match=r"evil\.pkl"):
        train(small_config(folder, **SETTINGS))


def test_a_dataset_of_another_spec_is_refused_naming_both(folder: Path) -> None:
    content = config_content(folder)
    content["features"]["tables"]["user"]["num_buckets"] += 1
    with pytest.raises(
        SpecMismatchError, match=r"the config has feature spec \w+, dataset .* has .*tables user"
    ):
        train(Config.model_validate(content))


def test_a_dataset_of_other_tasks_is_refused_naming_both(own_dataset: Path) -> None:
    manifest = read_manifest(str(own_dataset))
    tasks = Tasks.model_validate({"click": {}, "like": {"given": "click"}})
    changed = manifest.model_copy(update={"tasks": tasks})
    rewrite(own_dataset / "manifest.json", changed.model_dump_json())
    with pytest.raises(
        SpecMismatchError,
        match=r"the config has the tasks click, conversion given click; dataset .* has click, like given",
    ):
        train(small_config(own_dataset.parent))


def test_a_half_written_dataset_and_one_with_a_pickle_are_refused(own_dataset: Path) -> None:
    config = small_config(own_dataset.parent)
    (own_dataset / "examples" / "_common_metadata").touch()
    with pytest.raises(UnsafeFileError, match="_common_metadata"):
        train(config)
    (own_dataset / "examples" / "_common_metadata").unlink()
    (own_dataset / "_SUCCESS").unlink()
    with pytest.raises(IncompleteError, match="half-written"):
        train(config)


def test_an_epoch_that_misses_a_group_is_an_error(own_dataset: Path) -> None:
    # The manifest's sizes agree with the files, its sum of hashes doesn't: another group stands in for one.
    manifest = read_manifest(str(own_dataset))
    manifest.partitions["split=train"].group_hash_sum += 1
    rewrite(own_dataset / "manifest.json", manifest.model_dump_json())
    with pytest.raises(CountMismatchError, match=r"epoch 1 saw .* impressions with group hash sum"):
        train(small_config(own_dataset.parent))


def test_validation_is_left_out_where_there_is_no_validation_partition(own_dataset: Path) -> None:
    manifest = read_manifest(str(own_dataset))
    del manifest.partitions["split=validation"]
    rewrite(own_dataset / "manifest.json", manifest.model_dump_json())
    summary = train(small_config(own_dataset.parent))
    assert summary is not None
    assert "none (the dataset has no validation partition)" in summary
    model = own_dataset.parent / "model"
    assert json.loads((newest_version(model) / "model.json").read_text())["step"] == 32


def test_the_command_tells_a_mistake_in_one_line_with_exit_code_2(new_run: NewRun) -> None:
    config = new_run()
    path = config.parent / "dataset/examples/split=train/part-00001.parquet"
    assert pq.read_metadata(path).num_rows
    result = subprocess.run(
        [sys.executable, str(TRAIN), "--config", str(config), "train.epochs=0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"error: {config}: train.epochs = 0: Input should be greater than or equal to 1"
    ]


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    assert os.access(TRAIN, os.X_OK)
    result = subprocess.run(
        [sys.executable, "-X", "importtime", str(TRAIN), "--help"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0
    assert "--config FILE [key=value ...]" in " ".join(result.stdout.split())
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert loaded.isdisjoint({"torch", "horovod", "petastorm", "pyspark", "fbgemm_gpu", "pandas"})
