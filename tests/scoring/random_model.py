"""A model of random parameters, and its own output on groups, impression by impression."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.fields.fitted import FittedNumbers
from esmm_spark.feed.batch import TokenBatch
from esmm_spark.files.lease import leased
from esmm_spark.model.directory import begin_version, new_version, publish
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import Esmm, build_esmm
from esmm_spark.model.objectives.probabilities import predict
from esmm_spark.model.shards import write_shard
from tests.synthetic_examples import Group

_NOTHING_FITTED: FittedNumbers = {}


@dataclass(frozen=True)
class RandomModel:
    """A published version and what it was written from."""

    uri: str
    esmm: Esmm
    rows: Tensor
    config: Config

    def own_output(self, groups: Sequence[Group]) -> npt.NDArray[np.float32]:
        """Returns [columns, N]: the scores of all impressions, as training's forward pass computes them.

        Each impression goes through an arena alone, with its own copy of its context.
        """
        spec = self.config.features
        arena = EmbeddingArena(
            len(self.rows), self.config.model.dim, optimizer=RowOptimizer(1.0, 1.0), init_range=0.0, seed=0
        )
        arena.load_local(self.rows)
        found = []
        with torch.no_grad():
            for group in groups:
                for tokens in _impressions(group, self.config):
                    embedded = embed_batch(arena, tokens, spec)
                    logits = self.esmm(*embedded)
                    found.append(predict(logits, self.config.objective)[:, 0].tolist())
        columns = self.config.tasks.all_score_columns
        return np.array(found, np.float32).T.reshape(len(columns), -1)

    def exact_conditionals(self, groups: Sequence[Group]) -> npt.NDArray[np.float64]:
        """Returns [K, N]: P(task | parent) of all impressions in float64, with bags summed token by token."""
        esmm, table = copy.deepcopy(self.esmm).double(), self.rows.double()
        num_tasks, found = len(self.config.tasks.names), []
        with torch.no_grad():
            for group in groups:
                for tokens in _impressions(group, self.config):
                    context = _summed(
                        table, tokens.context_rows, tokens.context_weights, tokens.context_lengths
                    )
                    impression = _summed(
                        table, tokens.impression_rows, tokens.impression_weights, tokens.impression_lengths
                    )
                    logits = esmm(context, impression, tokens.group_sizes)
                    found.append(torch.sigmoid(logits[:num_tasks, 0]).numpy())
        return np.array(found).T


def write_model(
    config: Config,
    *,
    num_shards: int = 1,
    seed: int = 0,
    vocabulary: str | None = None,
    fitted: FittedNumbers = _NOTHING_FITTED,
) -> RandomModel:
    """Publishes a version of random parameters, large enough that scores are spread over (0, 1)."""
    torch.manual_seed(seed)
    esmm = build_esmm(config.model, config.features, config.objective).eval()
    rows = torch.randn(config.features.num_rows * config.objective.num_embeddings, config.model.dim)
    root = config.paths.model
    info = new_version(
        root, config.model, config.features, esmm, step=seed, num_shards=num_shards, fitted=fitted
    )
    with leased(f"{root}/.lease", "the model") as lease:
        new = begin_version(root, info, lease)
        for rank in range(num_shards):
            write_shard(new.folder, rows[rank::num_shards], rank, num_shards)
        uri = publish(new, info, esmm, config_yaml="", metrics={}, history={}, vocabulary=vocabulary)
    return RandomModel(uri, esmm, rows, config)


def _impressions(group: Group, config: Config) -> list[TokenBatch]:
    """Returns each impression of the group as a group of its own."""
    spec = config.features
    context = _bags(group, "context", 1, [field.pooling for field in spec.context_fields])[0]
    impressions = _bags(
        group,
        "impression",
        len(group["impression_id"]),
        [field.pooling for field in spec.impression_fields],
    )
    return [TokenBatch(*context, *impression, torch.tensor([1])) for impression in impressions]


def _summed(table: Tensor, rows: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
    """Returns [1, fields, dim]: of each bag the sum of weight x row."""
    terms = table[rows.long()] * weights.double()[:, None]
    return torch.stack([bag.sum(0) for bag in terms.split(lengths.tolist())])[None]


def _bags(
    group: Group, level: str, num_parts: int, poolings: Sequence[str]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Returns rows, weights and lengths of the level's parts, one after the other."""
    start, parts = 0, []
    lengths = iter(group[f"{level}_lengths"])
    for _ in range(num_parts):
        rows, weights, own_lengths = [], [], []
        for pooling in poolings:
            length = next(lengths)
            rows += group[f"{level}_rows"][start : start + length]
            divisor = length if pooling == "mean" else 1
            weights += [weight / divisor for weight in group[f"{level}_weights"][start : start + length]]
            own_lengths.append(length)
            start += length
        parts.append(
            (
                torch.tensor(rows, dtype=torch.int32),
                torch.tensor(weights, dtype=torch.float32),
                torch.tensor(own_lengths, dtype=torch.int32),
            )
        )
    return parts
