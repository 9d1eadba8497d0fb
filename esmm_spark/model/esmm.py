"""ESMM: two towers over shared embedding rows, and the way from a batch to their logits.

Shapes: G groups, N impressions, Fc / Fi context / impression fields, D dim of an embedding row, T tokens.

    arena = build_arena(config, spec, rank=rank, num_ranks=num_ranks, device=device)
    esmm = build_esmm(config.model, spec)
    context, impression = embed_batch(arena, batch, spec)
    labels, scale = (batch.click, batch.conversion), 1 / impressions_of_the_global_batch
    loss = esmm.training_loss(context, impression, batch.group_sizes, labels, scale)
    loss.backward()  # steps the arena, too
    predict(esmm(context, impression, batch.group_sizes))  # to score
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from esmm_spark import config
from esmm_spark.errors import ConfigError
from esmm_spark.features import FeatureSpec
from esmm_spark.model.arena import EmbeddingArena
from esmm_spark.model.losses import BaseLoss, EsmmLoss, base_loss, esmm_loss, log_pctcvr
from esmm_spark.model.networks import Mlp, accepted_options, build_network
from esmm_spark.model.tower import are_compiled, compiled_loss


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


class Logits(NamedTuple):
    """The logits of pCTR and pCVR, [N] each."""

    ctr: Tensor
    cvr: Tensor


class Predictions(NamedTuple):
    """Probabilities, [N] float32 each."""

    pctr: Tensor
    pcvr: Tensor
    pctcvr: Tensor


class Esmm(nn.Module):
    """Two towers. The embedding is no part of it: `parameters()` are the dense part, alike on every rank.

    Args:
        ctr_tower: a network (`esmm_spark.model.networks`) for the CTR logit.
        cvr_tower: a network for the CVR logit.
        objective: `esmm`: both towers read the same embedding; `base`: each has its own, side by side on the
            last axis.
    """

    def __init__(self, ctr_tower: nn.Module, cvr_tower: nn.Module, objective: str = "esmm") -> None:
        super().__init__()
        self.ctr_tower, self.cvr_tower, self.objective = ctr_tower, cvr_tower, objective

    def forward(self, context: Tensor, impression: Tensor, group_sizes: Tensor) -> Logits:
        """Returns the logits of all impressions.

        Args:
            context: [G, Fc, D] float; [G, Fc, 2 * D] with objective `base`.
            impression: [N, Fi, D], impressions in the order of their groups; [N, Fi, 2 * D] with objective
                `base`.
            group_sizes: [G] int, impressions of each group, with sum N.

        Raises:
            ConfigError: a tower's logits are not [N].
        """
        num_impressions = impression.shape[0]
        group_index = _group_index(group_sizes, num_impressions)
        halves = 2 if self.objective == "base" else 1
        contexts, impressions = context.chunk(halves, dim=2), impression.chunk(halves, dim=2)
        logits = Logits(
            self.ctr_tower(contexts[0], impressions[0], group_index),
            self.cvr_tower(contexts[-1], impressions[-1], group_index),
        )
        for tower, logit in zip((self.ctr_tower, self.cvr_tower), logits, strict=True):
            if logit.shape != (num_impressions,):
                raise ConfigError(
                    f"network {type(tower).__name__} gave logits of shape {tuple(logit.shape)} for "
                    f"{num_impressions} impressions: it must give [{num_impressions}]"
                )
        return logits

    def loss(self, logits: Logits, click: Tensor, conversion: Tensor) -> EsmmLoss | BaseLoss:
        """Returns the objective's loss, summed over the impressions: see `losses`."""
        function = base_loss if self.objective == "base" else esmm_loss
        return function(logits.ctr, logits.cvr, click, conversion)

    def training_loss(
        self,
        context: Tensor,
        impression: Tensor,
        group_sizes: Tensor,
        labels: tuple[Tensor, Tensor],
        scale: float,
    ) -> Tensor:
        """Returns the objective's total loss of all impressions, summed and multiplied by `scale`.

        On the CPU perceptrons give it without logits, in one step (`tower.compiled_loss`).

        Args:
            context: as for `forward`.
            impression: as for `forward`.
            group_sizes: [G].
            labels: click and conversion, [N] each.
            scale: such as 1 / impressions of the global batch.
        """
        towers = [tower.layers for tower in (self.ctr_tower, self.cvr_tower) if type(tower) is Mlp]
        if len(towers) < 2 or not are_compiled(impression, towers):
            logits = self(context, impression, group_sizes)
            # Without autocast: a log loss needs more than bfloat16's three digits.
            with torch.autocast(impression.device.type, enabled=False):
                return scale * self.loss(Logits(logits.ctr.float(), logits.cvr.float()), *labels).total
        return compiled_loss(
            self._for_each_tower(context),
            self._for_each_tower(impression),
            _group_index(group_sizes, len(impression)),
            torch.stack(labels).float(),
            towers,
            self.objective,
            scale,
        )

    def _for_each_tower(self, pooled: Tensor) -> Tensor:
        """Returns [1, B, F * D] for [B, F, D]; with objective `base` [2, B, F * D] for [B, F, 2 * D]."""
        if self.objective == "base":
            return torch.stack([half.flatten(1) for half in pooled.chunk(2, dim=2)])
        return pooled.flatten(1).unsqueeze(0)


def _group_index(group_sizes: Tensor, num_impressions: int) -> Tensor:
    """Returns [N] int64, the group of each impression: sizes 2, 0, 1 give 0, 0, 2."""
    return torch.repeat_interleave(group_sizes.long(), output_size=num_impressions)


def num_embeddings(model_config: config.Model) -> int:
    """Returns how many embeddings lie in the arena: 1 shared by both towers, or 2 with objective `base`.

    With 2, table row r of the CTR tower is arena row r, and of the CVR tower `spec.num_rows` + r.
    """
    return 2 if model_config.objective == "base" else 1


def build_esmm(model_config: config.Model, spec: FeatureSpec) -> Esmm:
    """Returns a new model, its parameters drawn from torch's global random state.

    `network_options` go to every network, `hidden_units` and `activation` to one whose class names them.

    Raises:
        ConfigError: `model.network` is no network or does not take `model.network_options`.
    """
    shared = {"hidden_units": model_config.hidden_units, "activation": model_config.activation}
    options = {**accepted_options(model_config.network, shared), **model_config.network_options}
    towers = [
        build_network(
            model_config.network,
            len(spec.context_fields),
            len(spec.impression_fields),
            model_config.dim,
            **options,
        )
        for _ in range(2)
    ]
    return Esmm(towers[0], towers[1], model_config.objective)


def build_arena(
    whole_config: config.Config, spec: FeatureSpec, *, rank: int, num_ranks: int, device: torch.device
) -> EmbeddingArena:
    """Returns a new arena of this rank for the config's model, its rows drawn from `train.seed`."""
    model_config, train = whole_config.model, whole_config.train
    return EmbeddingArena(
        spec.num_rows * num_embeddings(model_config),
        model_config.dim,
        rank=rank,
        num_ranks=num_ranks,
        learning_rate=train.embedding_learning_rate,
        eps=train.embedding_eps,
        init_range=model_config.embedding_init,
        seed=train.seed,
        device=device,
    )


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
    """`embed_batch` in two parts, the first of which can run ahead: its exchange is then not waited for.

    Args:
        arena: as for `embed_batch`.
        batch: the tokens.
        spec: tells how many fields each level has.
    """

    def __init__(self, arena: EmbeddingArena, batch: GroupedTokens, spec: FeatureSpec) -> None:
        self._batch, self._spec, self._copies = batch, spec, arena.num_rows // spec.num_rows
        self._lookup = arena.start(*_tokens_of(batch, self._copies, spec))

    def fetch(self) -> None:
        """Reads the rows as the step before left them and starts to send them where they are wanted."""
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


def predict(logits: Logits) -> Predictions:
    """Returns probabilities in float32; pCTCVR from log space, so that it is right where both are tiny."""
    ctr, cvr = logits.ctr.float(), logits.cvr.float()
    return Predictions(torch.sigmoid(ctr), torch.sigmoid(cvr), log_pctcvr(ctr, cvr).exp())
