"""Target attention: an impression's vector attends to the values of its group's history.

Shapes: G groups, N impressions, M values of a history, D dim, A attention units of the first layer, P pairs
of an impression and a value.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.model.embedding.embedded import ValueSequence
from esmm_spark.model.networks.hidden import checked_hidden
from esmm_spark.model.networks.layers import checked_widths, initialise, layers_after_first, linears_of

# Pairs that are computed at a time: their hidden units should fit a core's cache.
_PAIRS_OF_CHUNK = 1 << 14


class TargetAttention(nn.Module):
    """DIN's activation unit over all values of a history, and their sum weighted by it.

        a(k, q) = MLP([k, q, k - q, k * q]),   attended = sum over m of a(k_m, q) k_m

    The scores aren't normalised, as in the paper, so that a long history of one interest weighs more than a
    short one; with `normalize` they go through a softmax over the history.

    The MLP's first layer W is linear in the first three parts: (Wk + Wd) k is computed once per group,
    (Wq - Wd) q once per impression, and only Wp (k * q), a quarter of the flat layer's work, once per pair.
    What follows it is elementwise and must be made for each pair. So that no tensor of all pairs is ever
    made, they are computed in chunks of groups, and once more in the backward pass.

    Args:
        dim: D.
        units: widths of the MLP's hidden layers, at least one; A is the first.
        activation: `relu` or `prelu`.
        normalize: whether the scores go through a softmax.

    Source: Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, equation 3 and
        figure 2; k - q as in the authors' code.
    """

    def __init__(
        self,
        dim: int,
        units: Sequence[int] = (36,),
        activation: str = "prelu",
        normalize: bool = False,
    ) -> None:
        super().__init__()
        widths = [*checked_widths(units, "attention.units", at_least_one=True), 1]
        # One parameter, so that it starts as, and is saved as, the flat layer that it stands for.
        self.first = nn.Linear(4 * dim, widths[0])
        self.rest = layers_after_first(widths, checked_hidden(activation))
        if not isinstance(normalize, bool):
            raise ConfigError(f"attention.normalize = {normalize!r}: must be true or false")
        self.normalize = normalize
        initialise([self.first, *linears_of(self.rest)])

    def forward(self, sequence: ValueSequence, query: Tensor, group_index: Tensor) -> Tensor:
        """Returns [N, D], zeros for an empty history.

        Args:
            sequence: values [G, M, D] and mask [G, M].
            query: [N, D], of each impression.
            group_index: [N] int64, sorted.
        """
        of_key, of_query, of_difference, of_product = self.first.weight.chunk(4, dim=1)
        key_shares = F.linear(sequence.values, of_key + of_difference, self.first.bias)  # [G, M, A]
        query_shares = F.linear(query, of_query - of_difference)  # [N, A]
        chunks = list(_chunks(sequence.mask, group_index))
        groups, impressions = ([chunk[place] for chunk in chunks] for place in (0, 1))
        # Split at once, whose backward pass is one concatenation: each slice's would be a tensor of zeros.
        parts = zip(
            chunks,
            sequence.values.split(groups),
            sequence.mask.split(groups),
            key_shares.split(groups),
            query.split(impressions),
            query_shares.split(impressions),
            group_index.split(impressions),
            strict=True,
        )
        attended = []
        for chunk, keys, mask, key_share, of_chunk, query_share, index in parts:
            pairs = _Pairs(
                keys[:, : chunk.longest],
                mask[:, : chunk.longest],
                key_share[:, : chunk.longest],
                of_chunk,
                query_share,
                index - chunk.first_group,
                of_product,
            )
            attended.append(checkpoint(self._attended, *pairs, use_reentrant=False, preserve_rng_state=False))
        return torch.cat(attended)

    def _attended(self, *of_chunk: Tensor) -> Tensor:
        """Returns [n, D] for the tensors of `_Pairs`."""
        pairs = _Pairs(*of_chunk)
        keys, mask = pairs.keys, pairs.mask
        key_shares = pairs.key_shares
        if len(keys) > 1:
            keys, mask, key_shares = (x.index_select(0, pairs.group_index) for x in (keys, mask, key_shares))
        hidden = F.linear(keys * pairs.query[:, None], pairs.of_product)  # [n, m, A]
        hidden = hidden.add_(key_shares).add_(pairs.query_shares[:, None])
        scores = self.rest(hidden.flatten(0, 1)).view(hidden.shape[:2])
        if self.normalize:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1)
        scores = scores * mask
        if len(keys) == 1:
            return torch.mm(scores, keys[0])
        return torch.bmm(scores[:, None], keys)[:, 0]


class _Pairs(NamedTuple):
    """What the scores of g groups and n impressions follow from, m the longest of their histories.

    Attributes:
        keys: [g, m, D].
        mask: [g, m].
        key_shares: [g, m, A], the keys' share of the first layer.
        query: [n, D].
        query_shares: [n, A].
        group_index: [n], each impression's place among the g groups.
        of_product: [A, D], the first layer's weights of k * q.
    """

    keys: Tensor
    mask: Tensor
    key_shares: Tensor
    query: Tensor
    query_shares: Tensor
    group_index: Tensor
    of_product: Tensor


class _Chunk(NamedTuple):
    """Consecutive groups that are computed at a time."""

    groups: int
    impressions: int
    first_group: int
    longest: int


def _chunks(mask: Tensor, group_index: Tensor) -> Iterator[_Chunk]:
    """Yields chunks of at most `_PAIRS_OF_CHUNK` pairs, or of one group."""
    lengths = mask.sum(dim=1).tolist()
    sizes = torch.bincount(group_index, minlength=len(lengths)).tolist()
    first, impressions, longest = 0, 0, 1
    for group, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        most = max(longest, length)
        if group > first and (impressions + size) * most > _PAIRS_OF_CHUNK:
            yield _Chunk(group - first, impressions, first, longest)
            first, impressions, most = group, 0, max(1, length)
        impressions, longest = impressions + size, most
    yield _Chunk(len(lengths) - first, impressions, first, longest)
