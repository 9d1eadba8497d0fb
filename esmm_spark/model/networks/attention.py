"""Target attention: an impression's vector attends to the values of its group's history.

Shapes: G groups, N impressions, M values of a history, D dim, A attention units of the first layer, P pairs
of an impression and a value.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        parameters = [parameter for parameter in self.rest.parameters() if parameter.requires_grad]
        pairs = _Pairs(
            sequence.values, sequence.mask, key_shares, query, query_shares, group_index, of_product
        )
        return cast(Tensor, _InChunks.apply(self, *pairs, *parameters))  # type: ignore[no-untyped-call]

    def attended(self, pairs: "_Pairs") -> Tensor:
        """Returns [n, D] of a chunk's pairs."""
        keys, mask, key_shares = pairs.keys, pairs.mask, pairs.key_shares
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
    """Consecutive groups, those of their impressions that are computed at a time, and the longest history."""

    groups: slice
    impressions: slice
    longest: int

    def parts(self, keys: Tensor, key_shares: Tensor, query: Tensor, query_shares: Tensor) -> list[Tensor]:
        """Returns views of what the chunk has of tensors of all groups and impressions."""
        of_groups = [x[self.groups, : self.longest] for x in (keys, key_shares)]
        return [*of_groups, *(x[self.impressions] for x in (query, query_shares))]

    def pairs(self, whole: _Pairs, parts: list[Tensor], of_product: Tensor) -> _Pairs:
        """Returns the chunk's pairs of `whole`, with these parts of its floats."""
        keys, key_shares, query, query_shares = parts
        mask = whole.mask[self.groups, : self.longest]
        index = whole.group_index[self.impressions] - self.groups.start
        return _Pairs(keys, mask, key_shares, query, query_shares, index, of_product)


class _InChunks(torch.autograd.Function):
    """The attention chunk by chunk, each computed once more in the backward pass.

    All that outlives a chunk is allocated before the first: small tensors that stay between large ones that
    go leave the heap in pieces, 500 MiB of them at 1,000 values.
    """

    @staticmethod
    def forward(ctx: Any, unit: TargetAttention, *inputs: Tensor) -> Tensor:
        whole = _Pairs(*inputs[:7])
        ctx.save_for_backward(*inputs)
        out = torch.empty_like(whole.query)
        if out.is_meta:  # where it is worked out what a step keeps
            return out
        ctx.unit, ctx.chunks = unit, list(_chunks(whole.mask, whole.group_index))
        kind = whole.query.device.type
        ctx.precision = torch.autocast(
            kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind)
        )
        for chunk in ctx.chunks:
            parts = chunk.parts(whole.keys, whole.key_shares, whole.query, whole.query_shares)
            out[chunk.impressions] = unit.attended(chunk.pairs(whole, parts, whole.of_product))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        whole, parameters = _Pairs(*ctx.saved_tensors[:7]), ctx.saved_tensors[7:]
        floats = (whole.keys, whole.key_shares, whole.query, whole.query_shares)
        of_floats = [torch.zeros_like(x) for x in floats]
        shared = [whole.of_product.detach().requires_grad_(), *parameters]
        of_shared = [torch.zeros_like(x) for x in shared]
        for chunk in ctx.chunks:
            parts = [part.detach().requires_grad_() for part in chunk.parts(*floats)]
            with torch.enable_grad(), ctx.precision:
                attended = ctx.unit.attended(chunk.pairs(whole, parts, shared[0]))
            of_chunk = gradient[chunk.impressions].to(attended.dtype)
            found = torch.autograd.grad(attended, [*parts, *shared], of_chunk)
            for own, more in zip([*chunk.parts(*of_floats), *of_shared], found, strict=True):
                own += more
        of_keys, of_key_shares, of_query, of_query_shares = of_floats
        of_product, *of_parameters = of_shared
        of_pairs = (of_keys, None, of_key_shares, of_query, of_query_shares, None, of_product)
        return None, *of_pairs, *of_parameters


def _chunks(mask: Tensor, group_index: Tensor) -> Iterator[_Chunk]:
    """Yields chunks of at most `_PAIRS_OF_CHUNK` pairs, or of one impression; a large group is cut."""
    lengths = mask.sum(dim=1).clamp(min=1).tolist()
    sizes = torch.bincount(group_index, minlength=len(lengths)).tolist()
    first, start, stop, longest = 0, 0, 0, 1
    for group, (length, size) in enumerate(zip(lengths, sizes, strict=True)):
        if start < stop and (stop + size - start) * max(longest, length) > _PAIRS_OF_CHUNK:
            yield _Chunk(slice(first, group), slice(start, stop), longest)
            first, start, longest = group, stop, 1
        stop, longest = stop + size, max(longest, length)
        most = max(1, _PAIRS_OF_CHUNK // longest)
        while stop - start > most:
            yield _Chunk(slice(first, group + 1), slice(start, start + most), longest)
            first, start = group, start + most
    if start < stop:
        yield _Chunk(slice(first, len(lengths)), slice(start, stop), longest)
