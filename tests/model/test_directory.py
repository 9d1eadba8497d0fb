import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esmm_spark.contracts import train_config
from esmm_spark.contracts.errors import IncompleteError, InputError, UnsafeFileError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.losses import Term
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.schemas.model_info import ModelInfo
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.files.lease import leased
from esmm_spark.files.tensor_file import tensor_bytes
from esmm_spark.model.directory import (
    begin_version,
    find_model,
    load_dense,
    new_version,
    open_rows,
    publish,
    read_info,
    version_uri,
)
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.embedding.serving import ServingEmbedding
from esmm_spark.model.esmm import Esmm, build_esmm
from esmm_spark.model.shards import open_shards, shard_name, write_shard
from tests.synthetic_examples import rewrite

SPEC = FeatureSpec.model_validate(
    {
        "tables": {"user": {"num_buckets": 20}, "item": {"num_buckets": 11}},
        "fields": [{"name": "user", "level": "context"}, {"name": "item", "level": "impression"}],
    }
)
DIM = 6
SETTINGS = train_config.Model(dim=DIM, hidden_units=[5])


def make_esmm(seed: int = 0, settings: train_config.Model = SETTINGS) -> Esmm:
    torch.manual_seed(seed)
    return build_esmm(settings, SPEC, resolve(settings, [], DEFAULT_TASKS))


def make_rows() -> Tensor:
    return torch.randn(SPEC.num_rows, DIM, generator=torch.Generator().manual_seed(9))


def write_version(
    root: Path,
    *,
    num_shards: int = 1,
    step: int = 10,
    esmm: Esmm | None = None,
    vocabulary: str | None = None,
) -> str:
    esmm = esmm or make_esmm()
    info = new_version(str(root), SETTINGS, SPEC, esmm, step=step, num_shards=num_shards)
    rows = make_rows()
    with leased(str(root / ".lease"), "the model") as lease:
        new = begin_version(str(root), info, lease)
        for rank in range(num_shards):
            write_shard(new.folder, rows[rank::num_shards], rank, num_shards)
        return publish(
            new,
            info,
            esmm,
            config_yaml="model: {dim: 6}\n",
            metrics={"ctcvr_auc": 0.75, "cvr_auc": None},
            history={"steps": [], "epochs": []},
            vocabulary=vocabulary,
        )


@pytest.mark.parametrize("num_shards", [1, 2, 3])
def test_what_is_written_is_read_back(tmp_path: Path, num_shards: int) -> None:
    esmm = make_esmm()
    uri = write_version(tmp_path, num_shards=num_shards, esmm=esmm)

    assert find_model(str(tmp_path)) == find_model(uri) == uri
    info = read_info(uri)
    assert (info.feature_spec, info.model, info.step, info.num_shards) == (SPEC, SETTINGS, 10, num_shards)
    loaded = load_dense(uri, info)
    assert not loaded.training
    for name, tensor in esmm.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    rows = open_rows(uri, info)
    np.testing.assert_array_equal(rows.gather(np.arange(SPEC.num_rows)), make_rows().numpy())
    assert json.loads((Path(uri) / "metrics.json").read_text()) == {"ctcvr_auc": 0.75, "cvr_auc": None}
    assert json.loads((Path(uri) / "history.json").read_text()) == {"steps": [], "epochs": []}
    assert (Path(uri) / "config.yaml").read_text() == "model: {dim: 6}\n"


@pytest.mark.parametrize("num_shards", [1, 2, 3])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
def test_shards_of_any_number_of_ranks_load_into_any_other(
    tmp_path: Path, num_shards: int, num_ranks: int
) -> None:
    uri = write_version(tmp_path, num_shards=num_shards)
    rows = open_rows(uri, read_info(uri))
    for rank in range(num_ranks):
        np.testing.assert_array_equal(rows.of_rank(rank, num_ranks), make_rows()[rank::num_ranks].numpy())


def test_the_rows_stay_in_their_file(tmp_path: Path) -> None:
    uri = write_version(tmp_path, num_shards=2)
    assert all(isinstance(shard, np.memmap) for shard in open_rows(uri, read_info(uri)).shards)


@pytest.mark.parametrize("num_shards", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_serving_pools_as_the_arena_does(tmp_path: Path, num_shards: int, dtype: torch.dtype) -> None:
    uri = write_version(tmp_path, num_shards=num_shards)
    serving = ServingEmbedding(open_rows(uri, read_info(uri)))
    arena = EmbeddingArena(SPEC.num_rows, DIM, optimizer=RowOptimizer(0.1), init_range=0.0, seed=0)
    arena.load_local(make_rows())
    rows = torch.tensor([30, 0, 7, 7, 1, 12], dtype=dtype)
    weights = torch.tensor([1.0, -2.0, 0.5, 0.25, 3.0, 0.0])
    lengths = torch.tensor([0, 3, 0, 2, 1, 0])

    found = serving(rows, weights, lengths)

    torch.testing.assert_close(found, arena(rows, weights, lengths).detach(), rtol=1e-6, atol=1e-6)
    assert serving.num_rows == SPEC.num_rows
    none = serving(rows[:0], weights[:0], lengths[:0])
    assert none.shape == (0, DIM)


@pytest.mark.parametrize("num_shards", [1, 2])
@pytest.mark.parametrize("row", [-1, 31])
def test_serving_refuses_a_row_out_of_range(tmp_path: Path, num_shards: int, row: int) -> None:
    uri = write_version(tmp_path, num_shards=num_shards)
    serving = ServingEmbedding(open_rows(uri, read_info(uri)))
    with pytest.raises(RuntimeError):
        serving(torch.tensor([row]), torch.ones(1), torch.tensor([1]))


def test_versions_are_numbered_and_named_by_their_content(tmp_path: Path) -> None:
    first = write_version(tmp_path / "a")
    same_elsewhere = write_version(tmp_path / "b")
    second = write_version(tmp_path / "a")
    other_step = write_version(tmp_path / "a", step=11)
    other_weights = write_version(tmp_path / "a", esmm=make_esmm(seed=1))

    names = [Path(uri).name for uri in (first, second, other_step, other_weights)]
    assert [name.split("-")[0] for name in names] == ["000001", "000002", "000003", "000004"]
    assert Path(same_elsewhere).name == names[0]
    digests = [name.split("-")[1] for name in names]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert find_model(str(tmp_path / "a")) == other_weights


def test_the_newest_complete_version_is_found_past_a_million(tmp_path: Path) -> None:
    old = Path(write_version(tmp_path))
    newest = old.with_name("1000000-00000000")
    old.with_name("999999-ffffffff").mkdir()
    (old.with_name("999999-ffffffff") / "_SUCCESS").touch()
    newest.mkdir()
    (newest / "_SUCCESS").touch()
    old.with_name("1000001-00000000").mkdir()  # half-written
    old.with_name("latest").mkdir()  # no version
    assert find_model(str(tmp_path)) == str(newest)


def test_a_killed_write_leaves_the_version_before_and_its_rest_is_cleaned_up(tmp_path: Path) -> None:
    esmm = make_esmm()
    before = write_version(tmp_path)
    killed = new_version(str(tmp_path), SETTINGS, SPEC, esmm, step=20, num_shards=2)
    with leased(str(tmp_path / ".lease"), "the model") as lease:
        new = begin_version(str(tmp_path), killed, lease)
    write_shard(new.folder, make_rows()[0::2], 0, 2)

    assert find_model(str(tmp_path)) == before
    with pytest.raises(IncompleteError, match=r"shard-00001-of-00002.safetensors: rank 1 wrote none"):
        publish(new, killed, esmm, config_yaml="", metrics={}, history={})
    assert find_model(str(tmp_path)) == before

    after = write_version(tmp_path, step=20)
    assert find_model(str(tmp_path)) == after
    assert sorted(path.name for path in (tmp_path / "versions").iterdir()) == [
        Path(before).name,
        Path(after).name,
    ]


def test_a_half_written_version_is_refused(tmp_path: Path) -> None:
    uri = write_version(tmp_path)
    (Path(uri) / "_SUCCESS").unlink()
    with pytest.raises(IncompleteError, match=r"no version in .*versions was written to its end \(000001-"):
        find_model(str(tmp_path))
    for read in (find_model, read_info):
        with pytest.raises(IncompleteError, match="is half-written"):
            read(uri)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=r"no model at .*: run esmm_spark/train\.py"):
            find_model(str(folder))


@pytest.mark.parametrize("name", ["weights.pt", "embedding/rows.pkl", "checkpoint.ckpt"])
def test_a_version_with_a_pickle_is_refused(tmp_path: Path, name: str) -> None:
    uri = write_version(tmp_path)
    (Path(uri) / name).write_bytes(b"cos\nsystem\n")
    for read in (find_model, read_info):
        with pytest.raises(UnsafeFileError, match=name.replace(".", r"\.")):
            read(uri)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_truncated_or_missing_shard_is_named(tmp_path: Path, num_shards: int) -> None:
    uri = write_version(tmp_path, num_shards=num_shards)
    name = shard_name(num_shards - 1, num_shards)
    shard = Path(uri) / name
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match=rf"{name} is corrupt or cut short"):
        open_rows(uri, read_info(uri))
    shard.unlink()
    with pytest.raises(InputError, match=rf"no file at .*{name}"):
        open_rows(uri, read_info(uri))


def test_a_shard_of_another_shape_is_named(tmp_path: Path) -> None:
    uri = write_version(tmp_path)
    write_shard(uri, torch.zeros(30, DIM), 0, 1)
    with pytest.raises(InputError, match=r"tensor rows has shape \(30, 6\), model.json says \(31, 6\)"):
        open_rows(uri, read_info(uri))
    with pytest.raises(InputError, match=r"tensor accumulator has shape None"):
        open_shards(uri, "accumulator", 31, (), 1)


def test_dense_parameters_of_another_network_are_named(tmp_path: Path) -> None:
    uri = write_version(tmp_path)
    wider = read_info(uri).model_copy(update={"model": train_config.Model(dim=DIM, hidden_units=[7])})
    with pytest.raises(
        InputError, match=r"parameter towers\.0\.first\.flat\.weight has shape \(5, 12\), the model"
    ):
        load_dense(uri, wider)


def edit_info(uri: str, **changes: object) -> None:
    path = Path(uri) / "model.json"
    rewrite(path, json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_model_json_that_cannot_be_trusted_is_refused(tmp_path: Path) -> None:
    uri = write_version(tmp_path)
    edit_info(uri, format_version=7)
    with pytest.raises(InputError, match="has format version 7, this esmm_spark reads 1: train again"):
        read_info(uri)
    edit_info(uri, format_version=1, feature_spec_digest="0123456789abcdef")
    with pytest.raises(InputError, match="says feature spec 0123456789abcdef, what it holds has"):
        read_info(uri)
    edit_info(uri, num_shards=0)
    with pytest.raises(InputError, match=r"is not a model\.json of this version: num_shards"):
        read_info(uri)
    (Path(uri) / "model.json").write_text("{")
    with pytest.raises(InputError, match=r"is not a model\.json of this version: the whole file"):
        read_info(uri)


def test_the_vocabulary_goes_with_the_model(tmp_path: Path) -> None:
    vocabulary = tmp_path / "dataset/vocabulary"
    vocabulary.mkdir(parents=True)
    (vocabulary / "part-0.parquet").write_bytes(b"PAR1")
    uri = write_version(tmp_path / "models", vocabulary=str(vocabulary))
    assert (Path(uri) / "vocabulary/part-0.parquet").read_bytes() == b"PAR1"


def test_a_model_of_before_is_read_by_its_former_names(tmp_path: Path) -> None:
    esmm = make_esmm()
    uri = write_version(tmp_path / "models", esmm=esmm)
    former = {
        name.replace("towers.0.", "ctr_tower.").replace("towers.1.", "cvr_tower."): tensor
        for name, tensor in esmm.state_dict().items()
    }
    (Path(uri) / "dense.safetensors").write_bytes(tensor_bytes(former))
    content = json.loads((Path(uri) / "model.json").read_text())
    for key in ("tasks", "losses"):
        del content[key]
    (Path(uri) / "model.json").write_text(json.dumps(content))
    (Path(uri) / "_SUCCESS").write_text("")
    found = load_dense(uri, read_info(uri))
    assert found.objective.tasks == DEFAULT_TASKS
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, esmm.state_dict()[name], rtol=0, atol=0)


def test_a_version_says_what_it_predicts_and_was_trained_by(tmp_path: Path) -> None:
    funnel = Tasks.model_validate({"click": {}, "cart": {"given": "click"}, "buy": {"given": "cart"}})
    terms = [Term(task="buy"), Term(task="cart", space="given", weight=0.5)]
    settings = train_config.Model(dim=DIM, hidden_units=[5], objective="terms", embedding="separate")
    esmm = build_esmm(settings, SPEC, resolve(settings, terms, funnel))
    info = new_version(str(tmp_path / "models"), settings, SPEC, esmm, step=1, num_shards=1)
    read = ModelInfo.model_validate_json(info.model_dump_json())
    assert (read.tasks, read.losses, read.objective) == (funnel, terms, esmm.objective)
    assert read.num_rows == 3 * SPEC.num_rows
    other = build_esmm(settings, SPEC, resolve(settings, terms[:1], funnel))
    other.load_state_dict(esmm.state_dict())
    again = new_version(str(tmp_path / "models"), settings, SPEC, other, step=1, num_shards=1)
    assert again.model_version != info.model_version


def test_base_holds_two_embeddings() -> None:
    info = ModelInfo(
        model_version="000001-00000000",
        feature_spec=SPEC,
        feature_spec_digest=SPEC.digest,
        model=train_config.Model(dim=DIM, objective="base"),
        num_shards=1,
        step=0,
    )
    assert info.num_rows == 2 * SPEC.num_rows
    assert version_uri("models", info) == "models/versions/000001-00000000"
