"""Networks of a user's own: what is told before training, and buffers and empty shares on several ranks."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
from torch import Tensor, nn

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.schemas.layout import DENSE_NAME
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import EpochPlan, row_groups_of
from esmm_spark.feed.reader import open_feed
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.model import directory
from esmm_spark.model.embedding.embedded import EmbeddedBatch
from esmm_spark.model.esmm import Esmm
from esmm_spark.training import need
from esmm_spark.training.build import build_trainer
from esmm_spark.training.need import require_memory
from esmm_spark.training.ranks.buffers import average_buffers
from esmm_spark.training.ranks.cluster import Cluster
from tests.synthetic_examples import SPEC, UNPOOLED, config_content, write_config
from tests.training.runs import metrics, newest_version, run

NewRun = Callable[..., Path]
ALONE = Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1)
CPU = torch.device("cpu")


class Own(nn.Module):
    """A network of a user's own over the impression's features."""

    def __init__(self, num_context_features: int, num_impression_features: int, dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(num_impression_features * dim, 1)

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Any:
        return self.layer(impression.flatten(1)).squeeze(1)


class Misshapen(Own):
    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Any:
        return self.layer(context.flatten(1))


class Tuple(Own):
    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Any:
        return super().forward(context, impression, group_index), None


class InPlace(Own):
    """Fails in the backward pass alone."""

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Any:
        hidden = self.layer(impression.flatten(1)).exp()
        result = hidden * hidden
        hidden += 1
        return result.squeeze(1)


class Half(Own):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.register_buffer("mask", torch.ones(2, dtype=torch.bool))


class Parameterless(nn.Module):
    def __init__(self, num_context_features: int, num_impression_features: int, dim: int) -> None:
        super().__init__()

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        return impression.sum((1, 2))


class Normalised(Own):
    """BatchNorm, which can be given neither nothing nor, in training, a single impression."""

    def __init__(self, num_context_features: int, num_impression_features: int, dim: int) -> None:
        super().__init__(num_context_features, num_impression_features, dim)
        self.norm = nn.BatchNorm1d(num_impression_features * dim)

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Any:
        if not len(impression):
            raise ValueError("no impressions")
        return self.layer(self.norm(impression.flatten(1))).squeeze(1)


def config_of(folder: Path, network: str, **train: Any) -> Config:
    content = config_content(folder, **train)
    content["model"]["network"] = f"tests.training.test_own_network:{network}"
    return Config.model_validate(content)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("Misshapen", r"Misshapen fails on context \[2, 3, dim\].*RuntimeError: mat1 and mat2 shapes cannot"),
        ("InPlace", r"InPlace fails on .*RuntimeError: one of the variables needed for gradient computation"),
        ("Tuple", r"network Tuple gave a tuple for 3 impressions: it must give a tensor \[3\]"),
        ("Half", r"Half: towers\.0\.mask is of torch\.bool, which a model's files can't hold: allowed are"),
        ("Parameterless", r"Parameterless has no parameter to train"),
    ],
)
def test_a_network_that_can_not_be_trained_is_told_in_one_line_before_training(
    tmp_path: Path, network: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_trainer(config_of(tmp_path, network), ALONE)
    assert "\n" not in str(caught.value)


def test_to_be_tried_leaves_a_networks_buffers_as_they_were(tmp_path: Path) -> None:
    trainer = build_trainer(config_of(tmp_path, "Normalised"), ALONE)
    norms = [module for module in trainer.model.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        assert torch.equal(cast(Tensor, norm.running_mean), torch.zeros(norm.num_features))
        assert norm.num_batches_tracked == 0
    assert len(norms) == 2


def test_a_model_larger_than_memory_is_refused_with_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(need, "memory_limit_bytes", lambda: 100 << 20)
    content = config_content(tmp_path)
    require_memory(Config.model_validate(content), ALONE, CPU)
    content["model"]["hidden_units"] = [4000, 4000]
    with pytest.raises(
        ConfigError,
        match=r"takes 0\.5 GiB, this host.* has 0\.1 GiB: .* Adam 0\.5 GiB, the "
        r"layers of a step of 128 impressions 0\.0 GiB: lower",
    ):
        build_trainer(Config.model_validate(content), ALONE)
    content["model"] = {"dim": 1024}
    content["features"]["tables"]["user"]["num_buckets"] = 10**10
    told = (
        r"the embedding 38,184\.2 GiB \(10,000,000,240 rows x \(dim 1024 \+ 1 of rowwise_adagrad\) x 4 bytes "
        r"over 4 ranks\), the"
    )
    four, two = (Cluster(rank=0, num_ranks=4, local_rank=0, local_ranks=number) for number in (4, 2))
    with pytest.raises(
        ConfigError, match=rf"takes 38,184\.4 GiB, this host, which 4 ranks share, has .*{told}"
    ):
        require_memory(Config.model_validate(content), four, CPU)
    with pytest.raises(ConfigError, match=r"takes 19,092\.2 GiB"):
        require_memory(Config.model_validate(content), two, CPU)
    content["train"]["embedding_optimizer"] = "adam"
    with pytest.raises(ConfigError, match=r"takes 57,22\d\.\d GiB.*\(dim 1024 \+ 2048 of adam\) x 4 bytes"):
        require_memory(Config.model_validate(content), two, CPU)
    content["train"]["embedding_optimizer"] = "sgd"
    with pytest.raises(ConfigError, match=r"takes 19,073\.\d GiB.*\(dim 1024 \+ 0 of sgd\) x 4 bytes"):
        require_memory(Config.model_validate(content), two, CPU)


def test_experts_that_do_not_fit_memory_are_refused_with_what_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(need, "memory_limit_bytes", lambda: 1 << 30)
    content = config_content(tmp_path, batch_size=4096)
    content["model"] = {"dim": 4, "network": "mmoe", "network_options": {"num_experts": 600}}
    with pytest.raises(
        ConfigError,
        match=r"takes [2-9]\.\d GiB, this host has 1\.0 GiB: .* with Adam 0\.0 GiB, the layers of a step of "
        r"4,096 impressions [2-9]\.\d GiB: lower .* experts or train\.batch_size",
    ) as caught:
        build_trainer(Config.model_validate(content), ALONE)
    assert "\n" not in str(caught.value)
    # Each of eight ranks has an eighth of a step, on a host of its own.
    content["model"]["network_options"] = {"num_experts": 200}
    content["train"]["batch_size"] = 8192
    with pytest.raises(ConfigError, match=r"a step of 8,192 impressions [1-3]\.\d GiB"):
        require_memory(Config.model_validate(content), ALONE, CPU)
    apart = Cluster(rank=0, num_ranks=8, local_rank=0, local_ranks=1)
    require_memory(Config.model_validate(content), apart, CPU)


def test_an_attention_that_does_not_fit_memory_is_refused_with_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(need, "memory_limit_bytes", lambda: 1 << 30)
    content = config_content(tmp_path, batch_size=4096)
    content["features"] = UNPOOLED.model_dump(mode="json")
    attention = {"units": [32]}
    content["model"] = {"dim": 4, "network": "din", "network_options": {"attention": attention}}
    require_memory(Config.model_validate(content), ALONE, CPU)
    # 4,096 impressions' shares of 10^5 units are 1.5 GiB.
    attention["units"] = [10**5]
    with pytest.raises(ConfigError, match=r"the layers of a step of 4,096 impressions [1-3]\.\d GiB: lower"):
        require_memory(Config.model_validate(content), ALONE, CPU)


class Threads(Cluster):
    """Ranks that are threads of this process and sum by hand."""

    gate = threading.Barrier(3)
    given: ClassVar[dict[int, Tensor]] = {}

    def sum(self, tensor: Tensor, name: str) -> Tensor:
        self.given[self.rank] = tensor
        self.gate.wait(10)
        return torch.stack([self.given[rank] for rank in range(3)]).sum(0)


def test_buffers_are_averaged_over_the_ranks_that_changed_them() -> None:
    # The second rank had no impressions, the third three steps to the first's one.
    models = [nn.BatchNorm1d(2) for _ in range(3)]
    for model, mean, count in zip(models, (1.0, 100.0, 5.0), (4, 0, 9), strict=True):
        nn.init.constant_(cast(Tensor, model.running_mean), mean)
        cast(Tensor, model.num_batches_tracked).fill_(count)
    with ThreadPoolExecutor(3) as pool:
        futures = [
            pool.submit(average_buffers, models[rank], (1, 0, 3)[rank], Threads(rank, 3, rank, 3))
            for rank in range(3)
        ]
    assert [future.result(10) for future in futures] == [None] * 3
    for model in models:
        assert cast(Tensor, model.running_mean).tolist() == [4.0, 4.0]
        assert model.num_batches_tracked == 4


def test_a_share_without_impressions_does_not_reach_a_network() -> None:
    objective = resolve(Model(), [], DEFAULT_TASKS)
    esmm = Esmm([Normalised(3, 2, 4), Normalised(3, 2, 4)], objective).train()
    context, impression = torch.zeros(0, 3, 4, requires_grad=True), torch.zeros(0, 2, 4, requires_grad=True)
    sizes = torch.zeros(0, dtype=torch.int64)
    loss = esmm.training_loss(EmbeddedBatch(context, impression, sizes), torch.zeros(2, 0), 0.1)
    loss.backward()
    assert (float(loss.detach()), context.grad is None, impression.grad is None) == (0.0, False, False)
    assert esmm(context, impression, sizes).shape == (2, 0)


@pytest.mark.horovod
@pytest.mark.slow
def test_two_ranks_publish_the_batchnorm_that_they_validated(new_run: NewRun) -> None:
    folder = new_run().parent
    manifest = read_manifest(str(folder / "dataset"))
    # In an epoch's last step one impression is left: the first rank has it alone, the second has nothing.
    left = manifest.partitions["split=train"].impressions - 1
    settings = {"batch_size": next(size for size in range(60, left) if left % size == 0), "num_streams": 3}
    result = run(
        2,
        write_config(folder, **settings, epochs=1),
        "model.network=tests.training.test_own_network:Normalised",
    )
    assert result.returncode == 0, result.stderr

    config = config_of(folder, "Normalised", **settings)
    trainer = build_trainer(config, ALONE)
    version = str(newest_version(folder / "model"))
    directory.load_parameters(trainer.model, f"{version}/{DENSE_NAME}")
    rows = directory.open_rows(version, directory.read_info(version)).of_rank(0, 1)
    trainer.arena.load_local(rows)
    counts = manifest.partitions["split=validation"]
    plan = EpochPlan(row_groups_of(counts), 3, settings["batch_size"], seed=0, epoch=0, shuffle=False)
    with open_feed(str(folder / "dataset"), Layout(SPEC), plan, 0, 1) as batches:
        expected = trainer.validate(batches, counts)
    found = metrics(folder / "model")
    assert found == pytest.approx(expected, rel=1e-5)
