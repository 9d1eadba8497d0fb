"""MMoE: experts that all heads share, mixed by a gate of each head."""

from collections.abc import Sequence

from torch import Tensor, nn

from esmm_spark.model.grouped.layers import mix
from esmm_spark.model.networks.experts import GroupedPerceptrons, Towers
from esmm_spark.model.networks.hidden import checked_hidden
from esmm_spark.model.networks.layers import GroupedLinear, checked_count, checked_widths


class Mmoe(nn.Module):
    """Multi-gate mixture of experts, for all heads at once.

    With x = [context, impression], experts f_1 .. f_E and, of head h, gate and tower:

        g_h(x) = softmax(W_h x),   logit_h = tower_h(sum_e g_h(x)_e f_e(x))

    Args:
        num_context_features: Fc.
        num_impression_features: Fi.
        dim: D.
        num_heads: H.
        num_experts: E.
        expert_units: widths of an expert's layers, each with an activation.
        tower_units: widths of a tower's hidden layers.
        activation: `relu` or `prelu`.
        dropout: the probability that a hidden unit is dropped out in training.
        layer_norm: whether hidden units are normalised before their activation.

    Source: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
    Mixture-of-Experts", KDD 2018, equations 5 to 7.
    """

    def __init__(
        self,
        num_context_features: int,
        num_impression_features: int,
        dim: int,
        num_heads: int,
        num_experts: int = 4,
        expert_units: Sequence[int] = (128,),
        tower_units: Sequence[int] = (64,),
        activation: str = "prelu",
        dropout: float = 0.0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        hidden = checked_hidden(activation, dropout, layer_norm)
        widths = num_context_features * dim, num_impression_features * dim
        units = checked_widths(expert_units, "expert_units", at_least_one=True)
        self.num_experts = checked_count(num_experts, "num_experts", "mmoe")
        self.experts = GroupedPerceptrons(num_experts, *widths, units, hidden)
        self.gates = GroupedLinear(*widths, num_heads * num_experts, bias=False)
        self.towers = Towers(num_heads, units[-1], checked_widths(tower_units, "tower_units"), hidden)
        nn.init.xavier_uniform_(self.gates.flat.weight)

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        """Returns logits [H, N] for context [G, Fc, D], impression [N, Fi, D] and group_index [N]."""
        inputs = context.flatten(1), impression.flatten(1), group_index
        gates = self.gates(*inputs).unflatten(1, (-1, self.num_experts)).softmax(2)
        logits: Tensor = self.towers(mix(gates, self.experts(*inputs)))
        return logits
