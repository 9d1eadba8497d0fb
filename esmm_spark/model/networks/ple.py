"""PLE: experts of each head beside shared ones, layer upon layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.model.grouped.layers import mix
from esmm_spark.model.networks.experts import (
    BatchedLinear,
    GroupedPerceptrons,
    Towers,
    batched_perceptrons,
)
from esmm_spark.model.networks.hidden import Hidden, checked_hidden
from esmm_spark.model.networks.layers import GroupedLinear, checked_widths, is_count


class Ple(nn.Module):
    """Progressive layered extraction, for all heads at once; with one layer, customized gate control (CGC).

    In each layer head h has experts of its own, S shared ones serve all heads. Its gate sees what its experts
    see, and mixes them and the shared ones:

        x_h' = sum_e softmax(W_h x_h)_e f_e(x),   f of [its own experts of x_h, the shared ones of x_s]

    The shared ones' x_s' is a mixture of all experts, by a gate over x_s. In the first layer all x are
    [context, impression]; the last layer has no shared gate, and a tower for each head makes its logit.

    Args:
        num_context_features: Fc.
        num_impression_features: Fi.
        dim: D.
        num_heads: H.
        num_experts: in each layer, the experts of each head, and the shared ones.
        expert_units: for each layer the widths of an expert's own layers, each with an activation.
        tower_units: widths of a tower's hidden layers.
        activation: `relu` or `prelu`.
        dropout: the probability that a hidden unit is dropped out in training.
        layer_norm: whether hidden units are normalised before their activation.

    Source: Tang et al., "Progressive Layered Extraction (PLE)", RecSys 2020, equations 1 to 7.
    """

    def __init__(
        self,
        num_context_features: int,
        num_impression_features: int,
        dim: int,
        num_heads: int,
        num_experts: Sequence[int] = (1, 1),
        expert_units: Sequence[Sequence[int]] = ((128,), (128,)),
        tower_units: Sequence[int] = (64,),
        activation: str = "prelu",
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        hidden = checked_hidden(activation, dropout, layer_norm)
        widths = num_context_features * dim, num_impression_features * dim
        own, shared = _checked_experts(num_experts)
        units = _checked_layers(expert_units)
        self.first = _Selection(num_heads, own, shared, has_shared_gate=len(units) > 1)
        self.experts = GroupedPerceptrons(self.first.num_experts, *widths, units[0], hidden)
        self.gates = GroupedLinear(*widths, self.first.num_weights, bias=False)
        self.extractions = nn.ModuleList(
            _Extraction(
                _Selection(num_heads, own, shared, has_shared_gate=layer + 1 < len(units)),
                units[layer - 1][-1],
                units[layer],
                hidden,
            )
            for layer in range(1, len(units))
        )
        self.towers = Towers(num_heads, units[-1][-1], checked_widths(tower_units, "tower_units"), hidden)
        nn.init.xavier_uniform_(self.gates.flat.weight)

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns logits [H, N] for context [G, Fc, D], impression [N, Fi, D] and group_index [N]."""
        inputs = context.flatten(1), impression.flatten(1), group_index
        x = mix(self.first(self.gates(*inputs)), self.experts(*inputs))
        for extraction in self.extractions:
            x = extraction(x)
        logits: Tensor = self.towers(x)
        return logits


def _checked_experts(num_experts: Sequence[int]) -> tuple[int, int]:
    if isinstance(num_experts, list | tuple) and len(num_experts) == 2 and all(map(is_count, num_experts)):
        return num_experts[0], num_experts[1]
    raise ConfigError(
        f"num_experts = {num_experts!r}: network ple needs two whole numbers, each at least 1: [experts of "
        "each head, shared experts]"
    )


def _checked_layers(expert_units: Sequence[Sequence[int]]) -> list[list[int]]:
    if not isinstance(expert_units, list | tuple) or not expert_units:
        raise ConfigError(
            f"expert_units = {expert_units!r}: network ple needs a list of widths for each layer, such as "
            "[[128], [128]]"
        )
    return [checked_widths(units, "expert_units of a layer", at_least_one=True) for units in expert_units]


class _Selection(nn.Module):
    """Which experts the gates of a layer mix: those of head 0, of head 1, ..., the shared ones.

    Args:
        num_heads: H.
        task_experts: m, experts of each head.
        shared_experts: S.
        has_shared_gate: whether a last gate mixes all experts.
    """

    def __init__(self, num_heads: int, task_experts: int, shared_experts: int, has_shared_gate: bool) -> None:
        super().__init__()
        self.num_heads, self.task_experts, self.shared_experts = num_heads, task_experts, shared_experts
        self.num_experts = num_heads * task_experts + shared_experts
        self.has_shared_gate = has_shared_gate
        self.num_gates = num_heads + has_shared_gate
        gate = torch.arange(num_heads)
        own = gate[:, None] * task_experts + torch.arange(task_experts)
        shared = num_heads * task_experts + torch.arange(shared_experts).expand(num_heads, -1)
        places = (gate[:, None] * self.num_experts + torch.cat((own, shared), 1)).flatten()
        if has_shared_gate:
            places = torch.cat((places, num_heads * self.num_experts + torch.arange(self.num_experts)))
        self.num_weights = len(places)
        # Follows from the options: no part of a checkpoint.
        self.register_buffer("places", places, persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        """Returns the gates' weights of all experts, [N, gates, experts], 0 of those that they don't mix.

        Args:
            logits: [N, weights], gate by gate, expert by expert.
        """
        everywhere = logits.new_full((len(logits), self.num_gates * self.num_experts), -torch.inf)
        chosen: Tensor = everywhere.index_copy(1, self.places, logits)  # type: ignore[arg-type]
        gates: Tensor = chosen.unflatten(1, (self.num_gates, self.num_experts)).softmax(2)
        return gates


class _Extraction(nn.Module):
    """A layer after the first.

    Args:
        selection: its gates and experts.
        width: of what it reads.
        units: widths of an expert's layers.
        hidden: the options of their layers.
    """

    def __init__(self, selection: _Selection, width: int, units: Sequence[int], hidden: Hidden) -> None:
        super().__init__()
        num_heads = selection.num_heads
        self.selection = selection
        self.experts = batched_perceptrons(selection.num_experts, width, units, hidden)
        self.gates = BatchedLinear(
            num_heads, width, selection.task_experts + selection.shared_experts, bias=False
        )
        has_shared = selection.has_shared_gate
        self.shared_gate = nn.Linear(width, selection.num_experts, bias=False) if has_shared else None
        if self.shared_gate is not None:
            nn.init.xavier_uniform_(self.shared_gate.weight)
        heads = torch.arange(num_heads).repeat_interleave(selection.task_experts)
        sources = torch.cat((heads, torch.full((selection.shared_experts,), num_heads)))
        self.register_buffer("sources", sources, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns [H, N, width], and the shared one's behind them unless it is the last layer.

        Args:
            x: [H + 1, N, width], what the heads' experts and the shared ones read.
        """
        num_heads = self.selection.num_heads
        logits = self.gates(x[:num_heads]).transpose(0, 1).flatten(1)
        if self.shared_gate is not None:
            logits = torch.cat((logits, self.shared_gate(x[num_heads])), 1)
        experts = self.experts(x.index_select(0, self.sources))  # type: ignore[arg-type]
        return mix(self.selection(logits), experts)
