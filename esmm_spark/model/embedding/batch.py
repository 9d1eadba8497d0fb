"""From a batch's tokens to the embeddings of its contexts and impressions.

Shapes: G groups, N impressions, Fc / Fi context / impression fields, D dim of an embedding row, T tokens.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.model.embedding.arena import EmbeddingArena


class GroupedTokens(Protocol):
    """What `embed_batch` reads of a batch (`esmm_spark.feed.batch.Batch`): CPU or CUDA tensors.

    A bag's weights already hold its field's pooling: with `mean` they are divided by the number of values.
    """

    @property
    def context_rows(self) -> Tensor:
        """[Tc] int32 or int64."""
        ...

    @property
    def context_weights(self) -> Tensor:
        """[Tc] float32."""
        ...

    @property
    def context_lengths(self) -> Tensor:
        """[G * Fc] int32 or int64."""
        ...

    @property
    def impression_rows(self) -> Tensor:
        """[Ti]."""
        ...

    @property
    def impression_weights(self) -> Tensor:
        """[Ti]."""
        ...

    @property
    def impression_lengths(self) -> Tensor:
        """[N * Fi]."""
        ...

    @property
    def group_sizes(self) -> Tensor:
        """[G] int32 or int64, impressions of each group."""
        ...


class Embedding(Protocol):
    """What pools embedding rows: `EmbeddingArena` in training, `ServingEmbedding` in scoring."""

    @property
    def num_rows(self) -> int:
        """Rows that it holds."""
        ...

    def __call__(self, rows: Tensor, weights: Tensor, lengths: Tensor) -> Tensor:
        """Returns pooled bags [B, D] of rows [T], weights [T] and lengths [B]."""
        ...


def embed_batch(embedding: Embedding, batch: GroupedTokens, spec: FeatureSpec) -> tuple[Tensor, Tensor]:
    """Returns context [G, Fc, D] and impression [N, Fi, D] with one look-up for both.

    With two embeddings in the arena (objective `base`) the last axis is 2 * D.

    Worked example: 2 groups of 3 and 1 impressions, Fc = 13, Fi = 10: 26 + 40 = 66 bags go into the look-up.

    Args:
        embedding: holds `spec.num_rows` rows, or twice as many for objective `base`.
        batch: the tokens; with no group at all the result is empty, but the look-up is still made: other
            ranks wait for this one.
        spec: tells how many fields each level has.
    """
    copies = embedding.num_rows // spec.num_rows
    return _by_level(embedding(*_tokens_of(batch, copies, spec)), copies, batch, spec)


class BatchLookup:
    """`embed_batch` in two stages, the first of which can run ahead, so that its exchange is hidden.

    Args:
        arena: as for `embed_batch`.
        batch: the tokens.
        spec: tells how many fields each level has.
    """

    def __init__(self, arena: EmbeddingArena, batch: GroupedTokens, spec: FeatureSpec) -> None:
        self._batch, self._spec, self._copies = batch, spec, arena.num_rows // spec.num_rows
        self._lookup = arena.start(*_tokens_of(batch, self._copies, spec))

    def fetch(self) -> None:
        """Gathers the requested rows, as the step before left them, and starts to send them."""
        self._lookup.fetch()

    def embedded(self) -> tuple[Tensor, Tensor]:
        """Returns context and impression, as `embed_batch`."""
        return _by_level(self._lookup.pooled(), self._copies, self._batch, self._spec)


def _tokens_of(batch: GroupedTokens, copies: int, spec: FeatureSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Returns rows, weights and lengths of contexts' bags, then impressions'; all of that `copies` times."""
    rows = _joined(batch.context_rows, batch.impression_rows)
    weights = _joined(batch.context_weights, batch.impression_weights)
    lengths = _joined(batch.context_lengths, batch.impression_lengths)
    if copies == 1:
        return rows, weights, lengths
    rows = rows.long() if copies * spec.num_rows >= 2**31 else rows
    rows = torch.cat([rows + copy * spec.num_rows for copy in range(copies)])
    return rows, weights.repeat(copies), lengths.repeat(copies)


def _by_level(pooled: Tensor, copies: int, batch: GroupedTokens, spec: FeatureSpec) -> tuple[Tensor, Tensor]:
    """Returns context and impression of the bags [copies * (G * Fc + N * Fi), D] of `_tokens_of`."""
    num_bags, dim = pooled.shape[0] // copies, pooled.shape[1]
    if copies > 1:
        pooled = pooled.view(copies, num_bags, dim).transpose(0, 1).reshape(num_bags, copies * dim)
    num_groups, num_impressions = batch.group_sizes.numel(), int(batch.group_sizes.sum())
    context, impression = _Split.apply(pooled, batch.context_lengths.numel())  # type: ignore[no-untyped-call]
    return (
        context.view(num_groups, len(spec.context_fields), copies * dim),
        impression.view(num_impressions, len(spec.impression_fields), copies * dim),
    )


class _Split(torch.autograd.Function):
    """Rows before a place and those from it on, as views; their gradients come together by `_joined`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, place: int) -> tuple[Tensor, Tensor]:
        return rows[:place], rows[place:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, first: Tensor, second: Tensor) -> tuple[Tensor, None]:
        return _joined(first.flatten(), second.flatten()).view(-1, first.shape[1]), None


def _joined(first: Tensor, second: Tensor) -> Tensor:
    """Returns two vectors as one; they are copied only where they don't lie one behind the other already."""
    end = first.storage_offset() + first.numel()
    is_one = first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    if is_one and end == second.storage_offset() and first.is_contiguous() and second.is_contiguous():
        return first.as_strided((first.numel() + second.numel(),), (1,))
    return torch.cat((first, second))
