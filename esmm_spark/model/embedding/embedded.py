"""What a network reads of a batch: the embeddings of its contexts and impressions.

Shapes: G groups, N impressions, Fc / Fi pooled fields of a context / of an impression, D dim of an embedding
row, M values of the batch's longest history.
"""

from typing import NamedTuple

from torch import Tensor


class ValueSequence(NamedTuple):
    """The values of a field with `pooling: none`, once per group, newest first, then padding.

    Attributes:
        values: [G, M, D], weight x row of each value, 0 where there is none. M is at least 1 and at most the
            field's `max_length`; it differs from batch to batch.
        mask: [G, M] bool, whether there is a value.
    """

    values: Tensor
    mask: Tensor


class EmbeddedBatch(NamedTuple):
    """The embeddings of a batch.

    Attributes:
        context: [G, Fc, D], pooled; [G, Fc, E * D] where E heads have an embedding each.
        impression: [N, Fi, D], or [N, Fi, E * D], impressions in the order of their groups.
        group_sizes: [G] int, impressions of each group, with sum N.
        sequences: of each of `FeatureSpec.sequence_fields`, with values [G, M, D] or [G, M, E * D].
    """

    context: Tensor
    impression: Tensor
    group_sizes: Tensor
    sequences: tuple[ValueSequence, ...] = ()
