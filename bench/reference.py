"""The reference: ESMM in plain PyTorch, written the obvious way.

Flat impressions, `nn.EmbeddingBag(sparse=True)` with SparseAdam, the network with Adam, the loss as the
product of probabilities. Same fields, tokens, weights, widths and batches as esmm_spark.

Shapes: N impressions, F pooled fields, D dim, T tokens of them, L values of the longest history.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.flat import FlatBatch, expand, starts_of


class ReferenceEsmm(nn.Module):
    """A network over the concatenated, pooled fields, and over histories value by value.

    Args:
        num_rows: embedding rows.
        num_fields: F.
        dim: D.
        network: gives both heads' logits [2, N] for fields [N, F * D], and values [N, L, D] and mask [N, L]
            of a history, if there is one.
    """

    def __init__(self, num_rows: int, num_fields: int, dim: int, network: nn.Module) -> None:
        super().__init__()
        self.num_fields, self.dim = num_fields, dim
        self.embedding = nn.EmbeddingBag(num_rows, dim, mode="sum", sparse=True, include_last_offset=True)
        nn.init.uniform_(self.embedding.weight, -0.01, 0.01)
        self.network = network

    def forward(self, batch: "ReferenceBatch") -> tuple[Tensor, Tensor]:
        """Returns pCTR and pCVR, [N] each."""
        pooled = self.embedding(batch.rows, batch.offsets, per_sample_weights=batch.weights)  # [N * F, D]
        inputs = [pooled.view(-1, self.num_fields * self.dim)]
        if batch.history is not None:
            rows, weights, mask = batch.history
            values = F.embedding(rows, self.embedding.weight, sparse=True) * weights[:, :, None]
            inputs += [values, mask]
        pctr, pcvr = torch.sigmoid(self.network(*inputs))
        return pctr, pcvr


def product_loss(pctr: Tensor, pcvr: Tensor, click: Tensor, conversion: Tensor) -> Tensor:
    """Returns the mean loss of [N] impressions: bce(click, pCTR) + bce(click * conversion, pCTR * pCVR).

    Source: Ma et al., "Entire Space Multi-Task Model", SIGIR 2018, equation 3.
    """
    return F.binary_cross_entropy(pctr, click) + F.binary_cross_entropy(pctr * pcvr, click * conversion)


class ReferenceTrainer:
    """The reference with its two optimizers.

    Args:
        model: the model.
        learning_rate: of both.
    """

    def __init__(self, model: ReferenceEsmm, learning_rate: float = 1e-3) -> None:
        self.model = model
        self.sparse = torch.optim.SparseAdam(list(model.embedding.parameters()), lr=learning_rate)
        self.dense = torch.optim.Adam(model.network.parameters(), lr=learning_rate)

    def step(self, batch: "ReferenceBatch") -> float:
        """Trains one batch and returns its loss."""
        pctr, pcvr = self.model(batch)
        loss = product_loss(pctr, pcvr, batch.click, batch.conversion)
        self.sparse.zero_grad()
        self.dense.zero_grad()
        loss.backward()
        self.sparse.step()
        self.dense.step()
        return loss.item()


class ReferenceBatch:
    """A flat batch as tensors.

    Args:
        flat: the impressions.
        history: the column of the one field that isn't pooled, or None.

    Attributes:
        rows: [T] int64, of the pooled fields.
        weights: [T].
        offsets: [N * F + 1].
        history: rows [N, L], weights [N, L], 0 behind the last value, and mask [N, L]; or None.
    """

    def __init__(self, flat: FlatBatch, history: int | None = None) -> None:
        starts = starts_of(flat.lengths.ravel()).reshape(flat.lengths.shape)
        columns = [column for column in range(flat.lengths.shape[1]) if column != history]
        lengths = flat.lengths[:, columns].ravel()
        places = expand(starts[:, columns].ravel(), lengths)
        self.rows = torch.from_numpy(flat.rows[places]).long()
        self.weights = torch.from_numpy(flat.weights[places])
        self.offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
        self.history: tuple[Tensor, Tensor, Tensor] | None = None
        if history is not None:
            own = flat.lengths[:, history]
            mask = np.arange(max(1, own.max(initial=0))) < own[:, None]
            tokens = np.where(mask, starts[:, history, None] + np.arange(mask.shape[1]), 0)
            weights = np.where(mask, flat.weights[tokens], np.float32(0))
            self.history = (
                torch.from_numpy(flat.rows[tokens]).long(),
                torch.from_numpy(weights),
                torch.from_numpy(mask),
            )
        self.click = torch.from_numpy(flat.click)
        self.conversion = torch.from_numpy(flat.conversion)
        self.num_impressions = flat.num_impressions
