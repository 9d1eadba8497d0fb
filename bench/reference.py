"""The reference: ESMM in plain PyTorch, written the obvious way.

Flat impressions, `nn.EmbeddingBag(sparse=True)` with SparseAdam, the network with Adam, the loss as the
product of probabilities. Same fields, tokens, weights, widths and batches as esmm_spark.

Shapes: N impressions, F fields, D dim, T tokens.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.flat import FlatBatch


class ReferenceEsmm(nn.Module):
    """A network over the concatenated, pooled fields.

    Args:
        num_rows: embedding rows.
        num_fields: F.
        dim: D.
        network: gives both heads' logits [2, N] for fields [N, F * D].
    """

    def __init__(self, num_rows: int, num_fields: int, dim: int, network: nn.Module) -> None:
        super().__init__()
        self.num_fields, self.dim = num_fields, dim
        self.embedding = nn.EmbeddingBag(num_rows, dim, mode="sum", sparse=True, include_last_offset=True)
        nn.init.uniform_(self.embedding.weight, -0.01, 0.01)
        self.network = network

    def forward(self, rows: Tensor, weights: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns pCTR and pCVR, [N] each.

        Args:
            rows: [T] int.
            weights: [T] float32.
            offsets: [N * F + 1], of the same type as `rows`.
        """
        pooled = self.embedding(rows, offsets, per_sample_weights=weights)  # [N * F, D]
        flat = pooled.view(-1, self.num_fields * self.dim)
        pctr, pcvr = torch.sigmoid(self.network(flat))
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
        pctr, pcvr = self.model(batch.rows, batch.weights, batch.offsets)
        loss = product_loss(pctr, pcvr, batch.click, batch.conversion)
        self.sparse.zero_grad()
        self.dense.zero_grad()
        loss.backward()
        self.sparse.step()
        self.dense.step()
        return loss.item()


class ReferenceBatch:
    """A flat batch as tensors."""

    def __init__(self, flat: FlatBatch) -> None:
        self.rows = torch.from_numpy(flat.rows).long()
        self.weights = torch.from_numpy(flat.weights)
        offsets = np.concatenate([[0], np.cumsum(flat.lengths.ravel())])
        self.offsets = torch.from_numpy(offsets)
        self.click = torch.from_numpy(flat.click)
        self.conversion = torch.from_numpy(flat.conversion)
        self.num_impressions = flat.num_impressions
