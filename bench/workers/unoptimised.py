"""Trains ESMM without anything that makes it fast, to hold quality against: same start, batches and rule.

Every impression is a group of its own with all tokens of its context; the embedding is a plain tensor with
row-wise Adagrad in a few lines of torch; the loss is the product of probabilities. Writes the test metrics of
the epoch that is best on validation.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.flat import FlatBatch, flatten
from bench.reference import product_loss
from bench.training import Session
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.schemas.layout import VALIDATION_PARTITION
from esmm_spark.model.embedding.initial_rows import fill_uniform
from esmm_spark.training.metrics import MetricSums, metrics_of
from esmm_spark.training.ranks.cluster import Cluster


class PlainModel:
    """The model with its parameters as plain tensors.

    Args:
        session: gives the towers' initial parameters, which are those of `esmm_spark/train.py`.
    """

    def __init__(self, session: Session) -> None:
        self.config: Config = session.config
        self.spec = self.config.features
        self.towers = session.trainer.model
        self.adam = torch.optim.Adam(self.towers.parameters(), lr=self.config.train.learning_rate)
        self.table = torch.empty(self.spec.num_rows, self.config.model.dim)
        fill_uniform(self.table, 0, 1, self.config.model.embedding_init, self.config.train.seed)
        self.state = torch.zeros(self.spec.num_rows)

    def logits(self, flat: FlatBatch) -> tuple[Tensor, Tensor]:
        """Returns the logits, and the table as it stands in the graph."""
        table = self.table.detach().requires_grad_()
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(flat.lengths.ravel())]))
        pooled = F.embedding_bag(
            torch.from_numpy(flat.rows).long(),
            table,
            offsets,
            mode="sum",
            sparse=True,
            per_sample_weights=torch.from_numpy(flat.weights),
            include_last_offset=True,
        )
        fields = pooled.view(flat.num_impressions, len(self.spec.fields), -1)
        num_context = len(self.spec.context_fields)
        ones = torch.ones(flat.num_impressions, dtype=torch.int64)
        return self.towers(fields[:, :num_context], fields[:, num_context:], ones), table

    def step(self, flat: FlatBatch) -> None:
        """Trains one batch."""
        logits, table = self.logits(flat)
        pctr, pcvr = torch.sigmoid(logits)
        loss = product_loss(pctr, pcvr, torch.from_numpy(flat.click), torch.from_numpy(flat.conversion))
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        assert table.grad is not None
        gradient = table.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        self.state[rows] += values.square().mean(dim=1)
        rate, eps = self.config.train.embedding_learning_rate, self.config.train.embedding_eps
        self.table[rows] -= rate * values / (self.state[rows].sqrt() + eps)[:, None]


def metrics(model: PlainModel, session: Session, partition: str) -> dict[str, float | None]:
    """Returns the metrics over a partition."""
    sums = MetricSums(session.config.objective, torch.device("cpu"))
    with torch.no_grad(), session.feed(partition=partition) as batches:
        for batch in batches:
            sums.add(model.logits(flatten(batch, model.spec))[0], batch.labels)
    return metrics_of(session.config.tasks, *sums.tensors())


def main() -> None:
    """Trains what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    model = PlainModel(session)
    best: dict[str, float | None] = {}
    best_auc, without_gain = -1.0, 0
    for epoch in range(config.train.epochs):
        with session.feed(epoch) as batches:
            for batch in batches:
                model.step(flatten(batch, model.spec))
        auc = metrics(model, session, VALIDATION_PARTITION)["ctcvr_auc"] or 0.0
        without_gain = 0 if auc > best_auc else without_gain + 1
        if auc > best_auc:
            best_auc, best = auc, metrics(model, session, "split=test")
        if 0 < config.train.early_stopping_epochs <= without_gain:
            break
    arguments.out.write_text(json.dumps(best))


if __name__ == "__main__":
    main()
