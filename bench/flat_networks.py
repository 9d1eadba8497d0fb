"""The networks in plain PyTorch, written the obvious way: flat, a module for each expert and gate.

Shapes: N impressions, W the width of an impression's pooled fields, H heads; L values of a history, D dim.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bench.flat import fields_in_order
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.features import FeatureSpec

NUM_HEADS = 2


class FlatMlp(nn.Module):
    """A perceptron for each head."""

    def __init__(self, width: int, hidden_units: Sequence[int]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(tower(width, hidden_units) for _ in range(NUM_HEADS))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [H, N] for x [N, W]."""
        return torch.stack([own(x).squeeze(1) for own in self.towers])


class FlatDcn(nn.Module):
    """DCN-v2, stacked, for each head."""

    def __init__(self, width: int, cross_layers: int, hidden_units: Sequence[int]) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(
            nn.ModuleList(nn.Linear(width, width) for _ in range(cross_layers)) for _ in range(NUM_HEADS)
        )
        self.towers = nn.ModuleList(tower(width, hidden_units) for _ in range(NUM_HEADS))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [H, N] for x [N, W]."""
        logits = []
        for crosses, own in zip(self.crosses, self.towers, strict=True):
            crossed = x
            for cross in crosses.children():
                crossed = x * cross(crossed) + crossed
            logits.append(own(crossed).squeeze(1))
        return torch.stack(logits)


class FlatMmoe(nn.Module):
    """MMoE."""

    def __init__(
        self, width: int, num_experts: int, expert_units: Sequence[int], tower_units: Sequence[int]
    ) -> None:
        super().__init__()
        self.experts = nn.ModuleList(layers(width, expert_units) for _ in range(num_experts))
        self.gates = nn.ModuleList(nn.Linear(width, num_experts, bias=False) for _ in range(NUM_HEADS))
        self.towers = nn.ModuleList(tower(expert_units[-1], tower_units) for _ in range(NUM_HEADS))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [H, N] for x [N, W]."""
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        return torch.stack(
            [
                own(mixed(gate(x), experts)).squeeze(1)
                for gate, own in zip(self.gates, self.towers, strict=True)
            ]
        )


class FlatPle(nn.Module):
    """PLE with one expert of each head and a shared one in each layer."""

    def __init__(self, width: int, expert_units: Sequence[Sequence[int]], tower_units: Sequence[int]) -> None:
        super().__init__()
        widths = [width, *(units[-1] for units in expert_units)]
        self.experts = nn.ModuleList(
            nn.ModuleList(layers(before, units) for _ in range(NUM_HEADS + 1))
            for before, units in zip(widths, expert_units, strict=False)
        )
        self.gates = nn.ModuleList(
            nn.ModuleList(nn.Linear(before, 2, bias=False) for _ in range(NUM_HEADS))
            for before in widths[:-1]
        )
        self.shared_gates = nn.ModuleList(
            nn.Linear(before, NUM_HEADS + 1, bias=False) for before in widths[:-2]
        )
        self.towers = nn.ModuleList(tower(widths[-1], tower_units) for _ in range(NUM_HEADS))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [H, N] for x [N, W]."""
        sources = [x] * (NUM_HEADS + 1)
        for level in range(len(self.experts)):
            experts, gates = list(self.experts[level].children()), list(self.gates[level].children())
            found = [expert(source) for expert, source in zip(experts, sources, strict=True)]
            shared = sources[-1]
            sources = [
                mixed(gates[head](sources[head]), torch.stack((found[head], found[-1]), dim=1))
                for head in range(NUM_HEADS)
            ]
            if level < len(self.shared_gates):
                sources.append(mixed(self.shared_gates[level](shared), torch.stack(found, dim=1)))
        return torch.stack([own(z).squeeze(1) for own, z in zip(self.towers, sources, strict=True)])


class FlatAitm(nn.Module):
    """AITM."""

    def __init__(self, width: int, tower_units: Sequence[int]) -> None:
        super().__init__()
        last = tower_units[-1]
        self.towers = nn.ModuleList(layers(width, tower_units) for _ in range(NUM_HEADS))
        self.transferred = layers(last, [last])
        self.value, self.query, self.key = (nn.Linear(last, last, bias=False) for _ in range(3))
        self.last = nn.ModuleList(nn.Linear(last, 1) for _ in range(NUM_HEADS))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [H, N] for x [N, W]."""
        first, own = (each(x) for each in self.towers)
        both = torch.stack((self.transferred(first), own), dim=1)
        scores = (self.query(both) * self.key(both)).sum(2) / both.shape[2] ** 0.5
        second = (scores.softmax(1)[:, :, None] * self.value(both)).sum(1)
        return torch.stack([last(z).squeeze(1) for last, z in zip(self.last, (first, second), strict=True)])


class FlatDin(nn.Module):
    """DIN with one history: the four parts of a pair side by side, on each impression's copy of the history.

    Args:
        width: W.
        dim: D.
        target: where among W the field that attends to the history begins.
        units: of the attention.
        hidden_units: of each head's perceptron.
    """

    def __init__(
        self, width: int, dim: int, target: int, units: Sequence[int], hidden_units: Sequence[int]
    ) -> None:
        super().__init__()
        self.own = slice(target, target + dim)
        self.attention = tower(4 * dim, units)
        self.towers = nn.ModuleList(tower(width + dim, hidden_units) for _ in range(NUM_HEADS))

    def forward(self, x: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Returns logits [H, N] for x [N, W], values [N, L, D] and mask [N, L]."""
        queries = x[:, None, self.own].expand_as(values)
        pairs = torch.cat((values, queries, values - queries, values * queries), dim=2)
        scores = self.attention(pairs.flatten(0, 1)).view(mask.shape) * mask
        attended = (scores[:, :, None] * values).sum(1)
        both = torch.cat((x, attended), dim=1)
        return torch.stack([own(both).squeeze(1) for own in self.towers])


def history_column(spec: FeatureSpec) -> int | None:
    """Returns the column of the one field with `pooling: none` in a flat batch, None where there is none."""
    columns = [column for column, field in enumerate(fields_in_order(spec)) if not field.is_pooled]
    assert len(columns) <= 1, columns
    return columns[0] if columns else None


def flat_network(config: Config) -> nn.Module:
    """Returns the twin of a config's network with the options that it has by default."""
    model, dim = config.model, config.model.dim
    pooled = [field for field in fields_in_order(config.features) if field.is_pooled]
    width = len(pooled) * dim
    twins: dict[str, Callable[[], nn.Module]] = {
        "mlp": lambda: FlatMlp(width, model.hidden_units),
        "dcn": lambda: FlatDcn(width, 2, model.hidden_units),
        "mmoe": lambda: FlatMmoe(width, 4, [128], [64]),
        "ple": lambda: FlatPle(width, [[128], [128]], [64]),
        "aitm": lambda: FlatAitm(width, [128, 64, 32]),
        "din": lambda: FlatDin(width, dim, _place_of_target(config) * dim, [36], model.hidden_units),
    }
    return twins[model.network]()


def _place_of_target(config: Config) -> int:
    """Returns which of the pooled fields is the impression's of the history's table."""
    spec = config.features
    (history,) = spec.sequence_fields
    names = [field.table_name for field in spec.impression_fields]
    return len(spec.pooled_context_fields) + names.index(history.table_name)


def layers(width: int, units: Sequence[int]) -> nn.Sequential:
    """Returns linear, PReLU, linear, PReLU, ..."""
    found: list[nn.Module] = []
    for before, after in itertools.pairwise([width, *units]):
        found += [nn.Linear(before, after), nn.PReLU(after)]
    return nn.Sequential(*found)


def tower(width: int, units: Sequence[int]) -> nn.Sequential:
    """Returns `layers` and a linear layer with one output."""
    return nn.Sequential(*layers(width, units), nn.Linear([width, *units][-1], 1))


def mixed(weights: Tensor, experts: Tensor) -> Tensor:
    """Returns the mixture [N, U] of experts [N, E, U] by the softmax of weights [N, E]."""
    return (weights.softmax(1)[:, :, None] * experts).sum(1)
