"""Two ranks' runs of the networks of all heads against flat float64 PyTorch, with torch's own optimizer."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from bench.flat import FlatBatch, expand, fields_in_order, flatten, starts_of
from bench.training import Session
from esmm_spark.contracts.config import Config
from esmm_spark.model import directory
from esmm_spark.training.ranks.cluster import Cluster
from tests.model.networks.test_experts import OPTIONS as EXPERTS
from tests.model.networks.test_experts import Parameters, aitm, mmoe, ple
from tests.model.plain_model import esmm
from tests.synthetic_examples import SPEC, UNPOOLED, config_content, write_small_dataset
from tests.training.runs import newest_version, parameters, run

pytestmark = [pytest.mark.horovod, pytest.mark.slow]

STEPS, STEPS_OF_EPOCH = 20, 16
TRAIN: dict[str, Any] = {
    "max_steps": STEPS,
    "checkpoint_every_steps": 0,
    "weight_decay": 0.05,
    "gradient_clip_norm": 0.5,
    "warmup_steps": 3,
    "learning_rate_decay": "cosine",
}
# float32 against float64 over 20 steps, sums over ranks included.
TOLERANCE = 2e-4

# Pooled fields [N, F * D], the vectors of each impression's history, parameters -> logits [H, N].
Network = Callable[[Tensor, list[Tensor], Parameters], Tensor]


def din(pooled: Tensor, histories: list[Tensor], own: Parameters) -> Tensor:
    """Zhou et al. 2018, figure 2: user, tags, item, labels and what the item attends to."""
    dim = pooled.shape[1] // 4
    attended = []
    for x, keys in zip(pooled, histories, strict=True):
        item = x[2 * dim : 3 * dim].expand_as(keys)
        pairs = torch.cat([keys, item, keys - item, keys * item], 1)
        attended.append((perceptron(pairs, own, "attentions.0", "first") * keys).sum(0))
    x = torch.cat([pooled, torch.stack(attended)], 1)
    return torch.cat([perceptron(x, own, f"towers.{head}", "first.flat") for head in (0, 1)], 1).T


def perceptron(x: Tensor, own: Parameters, prefix: str, first: str) -> Tensor:
    names = [f"{prefix}.{first}", *(f"{prefix}.rest.{layer}" for layer in (1, 3, 5))]
    names = [name for name in names if f"{name}.weight" in own]
    for layer, name in enumerate(names):
        x = x @ own[f"{name}.weight"].T + own[f"{name}.bias"]
        if layer < len(names) - 1:
            x = torch.where(x > 0, x, own[f"{prefix}.rest.{2 * layer}.weight"] * x)
    return x


def of_pooled(formula: Callable[[Tensor, Parameters], Tensor]) -> Network:
    return lambda pooled, _, own: formula(pooled, own)


NETWORKS: dict[str, tuple[Network, dict[str, Any]]] = {
    "mmoe": (of_pooled(mmoe), EXPERTS["mmoe"]),
    "ple": (of_pooled(ple), EXPERTS["ple"]),
    "aitm": (of_pooled(aitm), EXPERTS["aitm"]),
    "din": (din, {"attention": {"units": [8]}}),
}


class Oracle:
    """Rows and parameters in float64, which begin as those of a config's run.

    Args:
        config: the config.
        network: the logits.
    """

    def __init__(self, config: Config, network: Network) -> None:
        self.session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
        self.train, self.spec, self.network = config.train, config.features, network
        trainer = self.session.trainer
        self.rows = trainer.arena.local_rows().double().clone()
        self.row_state = torch.zeros(len(self.rows), dtype=torch.float64)
        self.dense = {
            name: value.detach().double().clone().requires_grad_()
            for name, value in trainer.model.named_parameters()
        }
        matrices = [name for name in self.dense if name.rpartition(".")[2] == "weight"]
        matrices = [name for name in matrices if self.dense[name].dim() > 1]
        groups = [
            {"params": [own for name, own in self.dense.items() if (name in matrices) == decays]}
            | {"weight_decay": self.train.weight_decay if decays else 0.0}
            for decays in (True, False)
        ]
        self.adam = torch.optim.AdamW(groups, lr=self.train.learning_rate)

    def run(self, steps: int) -> None:
        """Trains the first `steps` steps."""
        for epoch in range(-(-steps // STEPS_OF_EPOCH)):
            with self.session.feed(epoch) as batches:
                for number, batch in enumerate(batches):
                    step = epoch * STEPS_OF_EPOCH + number
                    if step < steps:
                        self._step(flatten(batch, self.spec), self._factor(step))

    def _factor(self, step: int) -> float:
        warm_up, total = self.train.warmup_steps, self.train.epochs * STEPS_OF_EPOCH
        if step < warm_up:
            return (step + 1) / warm_up
        return (1 + math.cos(math.pi * (step - warm_up) / (total - warm_up))) / 2

    def _step(self, flat: FlatBatch, factor: float) -> None:
        rows = self.rows.clone().requires_grad_()
        pooled, histories = self._fields(flat, rows)
        own = {name.removeprefix("towers.0."): value for name, value in self.dense.items()}
        p = torch.sigmoid(self.network(pooled, histories, own))
        labels = (torch.from_numpy(label).double() for label in (flat.click, flat.conversion))
        loss = esmm(*labels, *p).mean()
        self.adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.dense.values(), self.train.gradient_clip_norm or 0.0)
        for group in self.adam.param_groups:
            group["lr"] = self.train.learning_rate * factor
        self.adam.step()
        assert rows.grad is not None
        rate, eps = self.train.embedding_learning_rate * factor, self.train.embedding_eps
        self.row_state += rows.grad.square().mean(1)
        self.rows = self.rows - rate * rows.grad / (self.row_state.sqrt() + eps)[:, None]

    def _fields(self, flat: FlatBatch, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the pooled fields [N, F * D], and the vectors of each impression's history."""
        starts = starts_of(flat.lengths.ravel()).reshape(flat.lengths.shape)
        vectors = torch.from_numpy(flat.weights).double()[:, None] * rows[torch.from_numpy(flat.rows).long()]
        pooled, histories = [], []
        for column, field in enumerate(fields_in_order(self.spec)):
            lengths = flat.lengths[:, column]
            own = vectors[torch.from_numpy(expand(starts[:, column], lengths))]
            if not field.is_pooled:
                histories = list(own.split(lengths.tolist()))
                continue
            owners = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
            # Of a field with `pooling: mean` the feed has divided the weights by the bag's length.
            summed = torch.zeros(len(lengths), rows.shape[1]).double().index_add(0, owners, own)
            pooled.append(summed)
        return torch.cat(pooled, 1), histories


@pytest.mark.parametrize("name", NETWORKS)
def test_two_ranks_train_the_model_of_flat_float64(name: str, tmp_path: Path) -> None:
    network, options = NETWORKS[name]
    spec = UNPOOLED if name == "din" else SPEC
    write_small_dataset(tmp_path / "dataset", spec=spec)
    content = config_content(tmp_path, **TRAIN)
    content["features"] = spec.model_dump(mode="json")
    content["model"] = {"dim": 4, "network": name, "network_options": options}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    result = run(2, path)
    assert result.returncode == 0, result.stderr

    version = str(newest_version(tmp_path / "model"))
    oracle = Oracle(Config.model_validate(content), network)
    oracle.run(directory.read_info(version).step)
    found = parameters(tmp_path / "model")
    rows = found.pop("rows")
    np.testing.assert_allclose(rows, oracle.rows, rtol=TOLERANCE, atol=TOLERANCE)
    for key, value in found.items():
        expected = oracle.dense[key].detach().numpy()
        np.testing.assert_allclose(value, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=key)
