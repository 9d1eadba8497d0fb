"""A flipped bit in any file of a checkpoint or a model: told in one line, or the model is what it was."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import InputError, UserError
from esmm_spark.evaluation.report.history import read_history
from esmm_spark.files import seals
from esmm_spark.model import directory
from esmm_spark.model.esmm import build_arena, build_esmm
from esmm_spark.training import best, checkpoint
from esmm_spark.training.run import train
from tests.flipped_bits import flips_of
from tests.synthetic_examples import small_config
from tests.training.runs import newest_version, parameters, steps_with_checkpoint

FLIPS = 25


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "_PATIENCE_S", 0.0)


@pytest.fixture
def models(uninterrupted: Path, tmp_path: Path) -> Path:
    """A copy of a models folder with one version and its checkpoints."""
    shutil.copytree(uninterrupted, tmp_path / "model")
    return tmp_path / "model"


def flips_told(path: Path, read: Callable[[], object]) -> int:
    """Returns how many of FLIPS flips are told; after all others the read gives what it gave before."""
    before, told = read(), 0
    for _ in flips_of(path, FLIPS):
        try:
            after = read()
        except UserError as error:
            told += len(str(error).splitlines()) == 1
        else:
            assert after == before
    return told


def loaded(models: Path, step: int) -> list[object]:
    """The state and all numbers of a checkpoint."""
    config = small_config(models.parent)
    state = checkpoint.read_state(str(models), step)
    model = build_esmm(config.model, config.features, config.objective)
    optimizer = torch.optim.Adam(model.parameters())
    arena = build_arena(config, config.features, torch.device("cpu"))
    uri = checkpoint.checkpoint_uri(str(models), step)
    checkpoint.load_checkpoint(uri, state, arena, model, optimizer)
    moments = [value for parameter in model.parameters() for value in optimizer.state[parameter].values()]
    tensors = [arena.local_rows(), *arena.state().values(), *model.state_dict().values(), *moments]
    return [state.model_dump_json(), *(tensor.tolist() for tensor in tensors)]


@pytest.mark.parametrize("name", ["state.json", "dense.safetensors", "optimizer.safetensors", "embedding"])
def test_a_checkpoint_with_a_flipped_bit_is_refused(models: Path, name: str) -> None:
    step = steps_with_checkpoint(models)[-1]
    path = Path(checkpoint.checkpoint_uri(str(models), step)) / name
    (path,) = path.glob("*") if path.is_dir() else [path]
    # One may be in the name of the metadata, say, and harmless.
    assert flips_told(path, lambda: loaded(models, step)) >= FLIPS - 1


@pytest.mark.parametrize("name", ["model.json", "dense.safetensors", "embedding", "metrics.json"])
def test_a_model_with_a_flipped_bit_is_refused(models: Path, name: str) -> None:
    version = newest_version(models)
    (path,) = (version / name).glob("*") if (version / name).is_dir() else [version / name]

    def read() -> list[object]:
        return [
            *(value.tolist() for value in parameters(models).values()),
            directory.read_info(str(version)).model_dump_json(),
            best.metrics_at(str(version)),
        ]

    assert flips_told(path, read) >= FLIPS - 1


def test_curves_with_a_flipped_bit_are_left_out_with_the_reason(models: Path) -> None:
    version = newest_version(models)
    for _ in flips_of(version / "history.json", FLIPS):
        history, note = read_history(str(models), version.name)
        assert history is None
        assert "history.json has another SHA-256" in note
    assert read_history(str(models), version.name)[0] is not None


def test_the_record_of_a_best_model_that_was_not_published_is_refused_with_a_flipped_bit(
    new_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(str(new_run(epochs=1)))
    with monkeypatch.context() as patch:
        patch.setattr(directory, "begin_version", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(config)
    (record,) = Path(config.paths.model).glob("checkpoints/best*/best.json")
    for number, _ in enumerate(flips_of(record, FLIPS)):
        with pytest.raises(InputError, match=r"^\S+best\.json has another SHA-256 than in .*train again$"):
            best._read_facts(str(record.parent)) if number else train(config)
    summary = train(config)
    assert summary is not None
    assert "already trained" in summary


def test_a_flipped_bit_of_a_marker_changes_no_model(models: Path) -> None:
    version = newest_version(models)
    assert "config.yaml" in (version / "_SUCCESS").read_text()
    assert flips_told(version / "_SUCCESS", lambda: directory.read_info(str(version))) > 0
