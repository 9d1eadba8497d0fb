"""From a batch's tokens to the embeddings of its contexts and impressions.

Shapes: G groups, N impressions, Fc / Fi context / impression fields, D dim of an embedding row, T tokens.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.embedded import EmbeddedBatch, ValueSequence


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


def embed_batch(embedding: Embedding, batch: GroupedTokens, spec: FeatureSpec) -> EmbeddedBatch:
    """Returns the embeddings of contexts and impressions with one look-up for both.

    With two embeddings in the arena (objective `base`) the last axis is 2 * D.

    Worked example: 2 groups of 3 and 1 impressions, Fc = 13, Fi = 10: 26 + 40 = 66 bags go into the look-up.
    Is one of the 13 a sequence, of 5 values in one group and 2 in the other, it is 10 bags instead of 2, of
    one value or none.

    Args:
        embedding: holds `spec.num_rows` rows, or twice as many for objective `base`.
        batch: the tokens; with no group at all the result is empty, but the look-up is still made: other
            ranks wait for this one.
        spec: tells which fields each level has.
    """
    bags = _bags_of(batch, embedding.num_rows // spec.num_rows, spec)
    return _embedded(embedding(bags.rows, bags.weights, bags.lengths), bags, batch, spec)


class BatchLookup:
    """`embed_batch` in two stages, the first of which can run ahead, so that its exchange is hidden.

    Args:
        arena: as for `embed_batch`.
        batch: the tokens.
        spec: tells which fields each level has.
    """

    def __init__(self, arena: EmbeddingArena, batch: GroupedTokens, spec: FeatureSpec) -> None:
        self._batch, self._spec = batch, spec
        self._bags = _bags_of(batch, arena.num_rows // spec.num_rows, spec)
        self._lookup = arena.start(self._bags.rows, self._bags.weights, self._bags.lengths)

    def fetch(self) -> None:
        """Gathers the requested rows, as the step before left them, and starts to send them."""
        self._lookup.fetch()

    def embedded(self) -> EmbeddedBatch:
        """Returns the embeddings, as `embed_batch`."""
        return _embedded(self._lookup.pooled(), self._bags, self._batch, self._spec)


class _Bags(NamedTuple):
    """What is looked up: the contexts' bags, then the impressions'; all of that once for each embedding.

    Attributes:
        rows: [copies * T] int32 or int64.
        weights: [copies * T] float32.
        lengths: [copies * B] int.
        copies: embeddings.
        num_of_contexts: how many of the B bags are the contexts'.
        masks: [G, M] of each sequence field, whether its bag has a value.
    """

    rows: Tensor
    weights: Tensor
    lengths: Tensor
    copies: int
    num_of_contexts: int
    masks: list[Tensor]


def _bags_of(batch: GroupedTokens, copies: int, spec: FeatureSpec) -> _Bags:
    rows = _joined(batch.context_rows, batch.impression_rows)
    weights = _joined(batch.context_weights, batch.impression_weights)
    of_contexts, masks = _one_by_one(batch.context_lengths, spec)
    lengths = _joined(of_contexts, batch.impression_lengths)
    if copies > 1:
        rows = rows.long() if copies * spec.num_rows >= 2**31 else rows
        rows = torch.cat([rows + copy * spec.num_rows for copy in range(copies)])
        weights, lengths = weights.repeat(copies), lengths.repeat(copies)
    return _Bags(rows, weights, lengths, copies, of_contexts.numel(), masks)


def _one_by_one(lengths: Tensor, spec: FeatureSpec) -> tuple[Tensor, list[Tensor]]:
    """Returns the contexts' lengths with M bags of one token or none for a bag of a sequence, and the masks.

    The tokens stay where they are: a bag of l tokens becomes l bags of one and M - l empty ones.

    Example: a pooled field and a sequence with the lengths 3, 2 and 1, 0 have the lengths 3, 1, 1 and 1, 0,
    0.
    """
    if not spec.sequence_fields:
        return lengths, []
    columns, masks = [], []
    for field, own in zip(spec.context_fields, lengths.view(-1, len(spec.context_fields)).T, strict=True):
        if field.is_pooled:
            columns.append(own[:, None])
            continue
        longest = max(1, int(own.max())) if len(own) else 1
        masks.append(torch.arange(longest, device=own.device) < own[:, None])
        columns.append(masks[-1].to(own.dtype))
    return torch.cat(columns, dim=1).flatten(), masks


def _embedded(pooled: Tensor, bags: _Bags, batch: GroupedTokens, spec: FeatureSpec) -> EmbeddedBatch:
    """Returns contexts, impressions and sequences of the pooled bags [copies * B, D] of `_bags_of`."""
    num_bags, dim = pooled.shape[0] // bags.copies, pooled.shape[1] * bags.copies
    if bags.copies > 1:
        pooled = pooled.view(bags.copies, num_bags, -1).transpose(0, 1).reshape(num_bags, dim)
    num_groups, num_impressions = batch.group_sizes.numel(), int(batch.group_sizes.sum())
    context, impression = _Split.apply(pooled, bags.num_of_contexts)  # type: ignore[no-untyped-call]
    impression = impression.view(num_impressions, len(spec.impression_fields), dim)
    masks = iter(bags.masks)
    widths = [1 if field.is_pooled else next(masks).shape[1] for field in spec.context_fields]
    context = context.view(num_groups, sum(widths), dim)
    if not bags.masks:
        return EmbeddedBatch(context, impression, batch.group_sizes)
    parts = list(zip(spec.context_fields, context.split(widths, dim=1), strict=True))
    fields = torch.cat([context[:, :0], *(part for field, part in parts if field.is_pooled)], dim=1)
    values = [part for field, part in parts if not field.is_pooled]
    sequences = tuple(map(ValueSequence, values, bags.masks))
    return EmbeddedBatch(fields, impression, batch.group_sizes, sequences)


class _Split(torch.autograd.Function):
    """Splits rows at an index into two views; backward concatenates their gradients by `_joined`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, place: int) -> tuple[Tensor, Tensor]:
        return rows[:place], rows[place:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, first: Tensor, second: Tensor) -> tuple[Tensor, None]:
        return _joined(first.flatten(), second.flatten()).view(-1, first.shape[1]), None


def _joined(first: Tensor, second: Tensor) -> Tensor:
    """Concatenates two vectors, without a copy where the second follows the first in memory."""
    end = first.storage_offset() + first.numel()
    is_one = first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    if is_one and end == second.storage_offset() and first.is_contiguous() and second.is_contiguous():
        return first.as_strided((first.numel() + second.numel(),), (1,))
    return torch.cat((first, second))
