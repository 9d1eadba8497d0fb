"""ESMM: two towers over shared embedding rows (`embedding` tells the way there from a batch's tokens).

Shapes: G groups, N impressions, Fc / Fi context / impression fields, D dim of an embedding row, T tokens.

    arena = build_arena(config, spec, rank=rank, num_ranks=num_ranks, device=device)
    esmm = build_esmm(config.model, spec)
    context, impression = embed_batch(arena, batch, spec)
    labels, scale = tuple(batch.labels), 1 / impressions_of_the_global_batch
    loss = esmm.training_loss(context, impression, batch.group_sizes, labels, scale)
    loss.backward()  # steps the arena, too
    predict(esmm(context, impression, batch.group_sizes))  # to score
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from esmm_spark.contracts import config, train_config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.fused.tower import fused_loss, why_not_fused
from esmm_spark.model.losses import BaseLoss, EsmmLoss, base_loss, esmm_loss, log_pctcvr
from esmm_spark.model.networks import Mlp, accepted_options, build_network


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
        if num_impressions == 0:
            # A network of a user's own need not bear this: BatchNorm's statistics of nothing are NaN.
            return Logits(impression.new_zeros(0), impression.new_zeros(0))
        group_index = _group_index(group_sizes, num_impressions)
        halves = 2 if self.objective == "base" else 1
        contexts, impressions = context.chunk(halves, dim=2), impression.chunk(halves, dim=2)
        logits = Logits(
            self.ctr_tower(contexts[0], impressions[0], group_index),
            self.cvr_tower(contexts[-1], impressions[-1], group_index),
        )
        for tower, logit in zip((self.ctr_tower, self.cvr_tower), logits, strict=True):
            if not isinstance(logit, Tensor) or logit.shape != (num_impressions,):
                is_tensor = isinstance(logit, Tensor)
                found = f"logits of shape {tuple(logit.shape)}" if is_tensor else f"a {type(logit).__name__}"
                raise ConfigError(
                    f"network {type(tower).__name__} gave {found} for {num_impressions} impressions: it must "
                    f"give a tensor [{num_impressions}]"
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

        On the CPU perceptrons give it without logits, in one step (`tower.fused_loss`).

        Args:
            context: as for `forward`.
            impression: as for `forward`.
            group_sizes: [G].
            labels: click and conversion, [N] each.
            scale: such as 1 / impressions of the global batch.
        """
        towers = [tower.layers for tower in (self.ctr_tower, self.cvr_tower) if type(tower) is Mlp]
        if len(towers) < 2 or why_not_fused(impression, towers):
            if len(impression) == 0:
                # The look-up's backward pass is made all the same: the other ranks wait for it.
                return context.sum() + impression.sum()
            logits = self(context, impression, group_sizes)
            # Without autocast: a log loss needs more than bfloat16's three digits.
            with torch.autocast(impression.device.type, enabled=False):
                return scale * self.loss(Logits(logits.ctr.float(), logits.cvr.float()), *labels).total
        return fused_loss(
            (self._for_each_tower(context), self._for_each_tower(impression)),
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


def num_embeddings(model_config: train_config.Model) -> int:
    """Returns how many embeddings lie in the arena: 1 shared by both towers, or 2 with objective `base`.

    With 2, table row r of the CTR tower is arena row r, and of the CVR tower `spec.num_rows` + r.
    """
    return 2 if model_config.objective == "base" else 1


def build_esmm(model_config: train_config.Model, spec: FeatureSpec) -> Esmm:
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


def predict(logits: Logits) -> Predictions:
    """Returns probabilities in float32; pCTCVR from log space, so that it is right where both are tiny."""
    ctr, cvr = logits.ctr.float(), logits.cvr.float()
    return Predictions(torch.sigmoid(ctr), torch.sigmoid(cvr), log_pctcvr(ctr, cvr).exp())
