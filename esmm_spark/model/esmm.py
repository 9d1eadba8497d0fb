"""The model: networks that give the logits of all heads from embedding rows.

`embedding` tells the way there from tokens.

Shapes: G groups, N impressions, Fc / Fi context / impression fields, D dim of an embedding row, H heads, K
tasks.

    arena = build_arena(config, spec, device)
    esmm = build_esmm(config.model, spec, config.objective)
    embedded = embed_batch(arena, batch, spec)
    scale = 1 / impressions_of_the_global_batch
    loss = esmm.training_loss(embedded, batch.labels, scale)
    loss.backward()  # steps the arena, too
    predict(esmm(*embedded), esmm.objective)  # to score
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from esmm_spark.collectives.interface import Collectives
from esmm_spark.contracts import config, train_config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.objective import Objective
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.embedded import EmbeddedBatch, ValueSequence
from esmm_spark.model.embedding.row_optimizer import row_optimizer_of
from esmm_spark.model.fused.perceptron import Perceptron, why_not_fused
from esmm_spark.model.fused.tower import FusedInputs, fused_loss
from esmm_spark.model.networks.dropout import KeyedDropout
from esmm_spark.model.networks.mlp import Mlp
from esmm_spark.model.networks.registry import (
    accepted_options,
    build_networks,
    gives_all_heads,
    require_sequences_taken,
    resolve_network,
    takes_sequences,
)
from esmm_spark.model.objectives.pointwise import pointwise_loss
from esmm_spark.model.objectives.spec import spec_of
from esmm_spark.model.own_losses import require_terms, resolve_loss

_NOTHING: Mapping[str, Tensor] = {}


class Esmm(nn.Module):
    """The networks and the loss. The embedding is no part of it: `parameters()` are alike on every rank.

    Args:
        towers: [H] a network (`esmm_spark.model.networks.registry`) for each head of the objective, or one
            that gives all of them.
        objective: tasks, terms and heads.

    Attributes:
        dropouts: the layers whose masks a step of training draws (`dropout.draw_by`).

    Raises:
        ConfigError: the objective is a function that can't be imported.
    """

    def __init__(self, towers: Sequence[nn.Module], objective: Objective) -> None:
        super().__init__()
        self.towers, self.objective = nn.ModuleList(towers), objective
        self._gives_all_heads = gives_all_heads(type(towers[0]))
        expected = 1 if self._gives_all_heads else len(objective.heads)
        assert len(towers) == expected, (len(towers), objective.heads)
        self.spec = spec_of(objective)
        self.dropouts = [layer for layer in self.modules() if isinstance(layer, KeyedDropout)]
        self._own_loss = None if objective.terms else resolve_loss(objective.name)

    def forward(
        self,
        context: Tensor,
        impression: Tensor,
        group_sizes: Tensor,
        sequences: Sequence[ValueSequence] = (),
    ) -> Tensor:
        """Returns the logits of all impressions, [H, N].

        Args:
            context: [G, Fc, D] float; [G, Fc, H * D] where each head has an embedding of its own.
            impression: [N, Fi, D] or [N, Fi, H * D], impressions in the order of their groups.
            group_sizes: [G] int, impressions of each group, with sum N.
            sequences: of each field that isn't pooled, in their order.

        Raises:
            ConfigError: a network's logits are not [N], or [H, N] where it gives all heads.
        """
        num_impressions, num_embeddings = impression.shape[0], self.objective.num_embeddings
        num_heads = len(self.objective.heads)
        if num_impressions == 0:
            # A network of a user's own need not bear this: BatchNorm's statistics of nothing are NaN.
            return impression.new_zeros(num_heads, 0)
        group_index = _group_index(group_sizes, num_impressions)
        if self._gives_all_heads:
            inputs = _Inputs(context, impression, group_index, sequences)
            return _require_logits(self.towers[0], inputs, (num_heads, num_impressions))
        contexts, impressions = (x.chunk(num_embeddings, dim=2) for x in (context, impression))
        chunks = [values.chunk(num_embeddings, dim=2) for values, _ in sequences]
        inputs_of = [
            _Inputs(
                contexts[own],
                impressions[own],
                group_index,
                [ValueSequence(of[own], mask) for of, (_, mask) in zip(chunks, sequences, strict=True)],
            )
            for own in range(num_embeddings)
        ]
        return torch.stack(
            [
                _require_logits(tower, inputs_of[head % num_embeddings], (num_impressions,))
                for head, tower in enumerate(self.towers)
            ]
        )

    def loss(self, logits: Tensor, labels: Tensor, carried: Mapping[str, Tensor] = _NOTHING) -> Tensor:
        """Returns the loss of each impression, [N].

        Args:
            logits: [H, N], at least float32: a log loss needs more than bfloat16's three digits.
            labels: [K, N]: 1, 0, or below 0 where unknown.
            carried: [N] each, by column.
        """
        if self._own_loss is None:
            return pointwise_loss(logits, labels, self._columns(labels, carried), self.spec)
        terms = require_terms(self._own_loss(logits, labels, carried), self.objective.name, logits.shape[1])
        return terms.reshape(-1, logits.shape[1]).sum(0)

    def training_loss(
        self, inputs: EmbeddedBatch, labels: Tensor, scale: float, carried: Mapping[str, Tensor] = _NOTHING
    ) -> Tensor:
        """Returns the loss of all impressions, summed and multiplied by `scale`.

        On the CPU perceptrons give it without logits, in one step (`tower.fused_loss`).

        Args:
            inputs: from `embed_batch`.
            labels: [K, N] float32: 1, 0, or below 0 where unknown.
            scale: such as 1 / impressions of the global batch.
            carried: [N] float each, by column, NaN where missing.
        """
        context, impression, group_sizes, sequences = inputs
        self.spec.weight_sums[:] = 0
        if self.why_not_fused(impression) is not None:
            if len(impression) == 0:
                # The look-up's backward pass is made all the same: the other ranks wait for it.
                return sum((values.sum() for values, _ in sequences), context.sum() + impression.sum())
            logits = self(*inputs)
            with torch.autocast(impression.device.type, enabled=False):
                return (scale * self.loss(logits.float(), labels, carried).sum()).float()
        fused = FusedInputs(
            self._for_each_tower(context),
            self._for_each_tower(impression),
            _group_index(group_sizes, len(impression)),
            labels.float(),
            self._columns(labels, carried),
        )
        return fused_loss(fused, self._perceptrons, self.spec, scale)

    def why_not_fused(self, x: Tensor) -> str | None:
        """Returns why the fused kernels can't train the towers on such an input, or None where they can."""
        if self._own_loss is not None:
            return f"the loss is {self.objective.name}, a function of its own"
        if not all(type(tower) is Mlp for tower in self.towers):
            return f"the network is {type(self.towers[0]).__name__}"
        if extras := cast(Mlp, self.towers[0]).hidden.extras:
            return f"the network has {extras}"
        return why_not_fused(x, self._perceptrons)

    @property
    def _perceptrons(self) -> list[Perceptron]:
        return [tower.layers for tower in self.towers if type(tower) is Mlp]

    def _columns(self, labels: Tensor, carried: Mapping[str, Tensor]) -> Tensor:
        """Returns the columns that the terms read, [columns, N] float32."""
        columns = [carried[name].float() for name in self.objective.columns]
        return (
            torch.stack(columns) if columns else labels.new_zeros((0, labels.shape[1]), dtype=torch.float32)
        )

    def _for_each_tower(self, pooled: Tensor) -> Tensor:
        """Returns [1, B, F * D] for [B, F, D]; with an embedding for each [H, B, F * D] for [B, F, H * D]."""
        num_embeddings = self.objective.num_embeddings
        if num_embeddings == 1:
            return pooled.flatten(1).unsqueeze(0)
        return torch.stack([own.flatten(1) for own in pooled.chunk(num_embeddings, dim=2)])


class _Inputs(NamedTuple):
    """What a network reads, `sequences` only where its `forward` names them."""

    context: Tensor
    impression: Tensor
    group_index: Tensor
    sequences: Sequence[ValueSequence]


def _require_logits(network: nn.Module, inputs: _Inputs, shape: tuple[int, ...]) -> Tensor:
    """Returns what a network gives. Raises ConfigError where its logits are not of `shape`."""
    taken = {"sequences": inputs.sequences} if takes_sequences(type(network)) else {}
    logits: object = network(*inputs[:3], **taken)
    if isinstance(logits, Tensor) and logits.shape == shape:
        return logits
    is_tensor = isinstance(logits, Tensor)
    found = f"logits of shape {tuple(logits.shape)}" if is_tensor else f"a {type(logits).__name__}"  # type: ignore[attr-defined]
    heads = f" and {shape[0]} heads" if len(shape) == 2 else ""
    raise ConfigError(
        f"network {type(network).__name__} gave {found} for {shape[-1]} impressions{heads}: it must give a "
        f"tensor {list(shape)}"
    )


def _group_index(group_sizes: Tensor, num_impressions: int) -> Tensor:
    """Returns [N] int64, the group of each impression: sizes 2, 0, 1 give 0, 0, 2."""
    return torch.repeat_interleave(group_sizes.long(), output_size=num_impressions)


def build_esmm(model_config: train_config.Model, spec: FeatureSpec, objective: Objective) -> Esmm:
    """Returns a new model, its parameters drawn from torch's global random state, head after head.

    `network_options` go to every network, `hidden_units`, `activation` and `feature_spec` to one whose class
    names them.

    Raises:
        ConfigError: `model.network` is no network or does not take `model.network_options`, or fields that
            aren't pooled; it gives all heads, but each has an embedding of its own; the objective is a
            function that can't be imported.
    """
    shared = {
        "hidden_units": model_config.hidden_units,
        "activation": model_config.activation,
        "feature_spec": spec,
    }
    require_sequences_taken(model_config.network, spec)
    options = {**accepted_options(model_config.network, shared), **model_config.network_options}
    name = model_config.network
    if objective.num_embeddings > 1 and gives_all_heads(resolve_network(name)):
        raise ConfigError(
            f"model.network {name} gives all heads from one embedding, but model.embedding is separate, by "
            f"itself or by model.objective {objective.name}: set model.embedding: shared, or another network"
        )
    num_fields = len(spec.pooled_context_fields), len(spec.impression_fields)
    towers = build_networks(name, len(objective.heads), *num_fields, model_config.dim, **options)
    return Esmm(towers, objective)


def build_arena(
    whole_config: config.Config,
    spec: FeatureSpec,
    device: torch.device,
    collectives: Collectives | None = None,
) -> EmbeddingArena:
    """Returns a new arena of this rank for the config's model, its rows drawn from `train.seed`.

    `collectives` are those of the ranks, None for one rank alone.
    """
    model_config, train = whole_config.model, whole_config.train
    return EmbeddingArena(
        spec.num_rows * whole_config.objective.num_embeddings,
        model_config.dim,
        collectives=collectives,
        optimizer=row_optimizer_of(train),
        init_range=model_config.embedding_init,
        seed=train.seed,
        device=device,
    )
