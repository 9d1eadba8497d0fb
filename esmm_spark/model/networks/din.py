"""The deep interest network: attention over behaviour histories, then a multilayer perceptron."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.model.embedding.embedded import ValueSequence
from esmm_spark.model.networks.attention import TargetAttention
from esmm_spark.model.networks.mlp import Mlp

_ATTENTION: Mapping[str, Any] = {"units": (36,), "normalize": False, "targets": {}}
_NO_OPTIONS: Mapping[str, Any] = {}


class Din(nn.Module):
    """Attends from impressions to the histories of their groups; gives the logits of all heads.

    Each field with `pooling: none` becomes, for each impression, one more vector: the sum of its values,
    weighted by how they go with the impression's own value (`TargetAttention`). All heads share it, as they
    share the embedding; each has a perceptron (`Mlp`) over all vectors.

    Args:
        num_context_features: Fc.
        num_impression_features: Fi.
        dim: D.
        num_heads: H.
        feature_spec: the fields.
        attention: `units`, widths of the attention's hidden layers, by default [36]; `normalize`, whether its
            scores go through a softmax over the history, which in the paper they don't; `targets`, history ->
            the impression's field that attends to it, e.g. {109_14: 206}, by default the one impression field
            of the history's table.
        hidden_units: widths of the perceptrons' hidden layers.
        activation: `relu` or `prelu`, of both.
        dropout: the probability that a hidden unit of the perceptrons is dropped out in training.
        layer_norm: whether hidden units of the perceptrons are normalised before their activation.

    Raises:
        ConfigError: there is no history, or no field that could attend to one; they have no common table; an
            option is wrong.

    Source: Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, figure 2.
    """

    def __init__(
        self,
        num_context_features: int,
        num_impression_features: int,
        dim: int,
        num_heads: int,
        feature_spec: FeatureSpec,
        attention: Mapping[str, Any] = _NO_OPTIONS,
        hidden_units: Sequence[int] = (200, 80),
        activation: str = "prelu",
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(attention, Mapping) or not {*attention} <= {*_ATTENTION}:
            raise ConfigError(
                f"network din has attention = {attention!r}: it must hold some of {', '.join(_ATTENTION)}"
            )
        units, normalize, targets = ({**_ATTENTION, **attention}[name] for name in _ATTENTION)
        self.targets = _places_of_targets(feature_spec, targets)
        self.attentions = nn.ModuleList(
            TargetAttention(dim, units, activation, normalize) for _ in self.targets
        )
        num_vectors = num_impression_features + len(self.targets)
        self.towers = nn.ModuleList(
            Mlp(num_context_features, num_vectors, dim, hidden_units, activation, dropout, layer_norm)
            for _ in range(num_heads)
        )

    def forward(
        self, context: Tensor, impression: Tensor, group_index: Tensor, sequences: Sequence[ValueSequence]
    ) -> Tensor:
        """Returns logits [H, N].

        Args:
            context: [G, Fc, D].
            impression: [N, Fi, D].
            group_index: [N] int64, sorted.
            sequences: of each history, with values [G, M, D].
        """
        attended = [
            attention(sequence, impression[:, target], group_index)
            for attention, sequence, target in zip(self.attentions, sequences, self.targets, strict=True)
        ]
        fields = torch.cat((impression, torch.stack(attended, dim=1)), dim=1)
        return torch.stack([tower(context, fields, group_index) for tower in self.towers])


def _places_of_targets(spec: FeatureSpec, targets: Mapping[str, str]) -> list[int]:
    """Returns, for each history, the place among the impression's fields of the one that attends to it."""
    histories = [field.name for field in spec.sequence_fields]
    if not histories:
        raise ConfigError(
            "model.network din attends to a history, but no field has pooling: none: set pooling: none and "
            "max_length on the history, or take model.network mlp"
        )
    if not isinstance(targets, Mapping) or not {*targets} <= {*histories}:
        raise ConfigError(
            f"network din has attention.targets = {targets!r}: it must be history -> the impression's field, "
            f"of the fields with pooling: none: {', '.join(histories)}"
        )
    names = [field.name for field in spec.impression_fields]
    return [names.index(_target_of(field, spec, targets.get(field.name))) for field in spec.sequence_fields]


def _target_of(history: FieldSpec, spec: FeatureSpec, given: str | None) -> str:
    """Returns the impression's field that attends to a history. Raises ConfigError."""
    tables = {field.name: field.table_name for field in spec.impression_fields}
    candidates = [name for name, table in tables.items() if table == history.table_name]
    of_table = f"those of its table {history.table_name} are {', '.join(candidates) or 'none'}"
    if given is None:
        if len(candidates) == 1:
            return candidates[0]
        raise ConfigError(
            f"network din needs the impression's field that attends to {history.name}, and {of_table}: "
            + ("name one in attention.targets" if candidates else "give one of the impression's that table")
        )
    if given not in candidates:
        found = f"of table {tables[given]}" if given in tables else "no field of impressions"
        raise ConfigError(
            f"network din has attention.targets {history.name}: {given}, which is {found}: vectors of two "
            f"tables can't be compared, {of_table}"
        )
    return given
