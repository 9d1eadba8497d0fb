"""The bench's flat networks compute what ours do: with our parameters they give our logits."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.flat import FlatBatch
from bench.flat_networks import FlatAitm, FlatDcn, FlatDin, FlatMlp, FlatMmoe, FlatPle
from bench.reference import ReferenceBatch, ReferenceEsmm, ReferenceTrainer
from bench.stages.networks import NETWORKS
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.model.embedding.embedded import ValueSequence
from esmm_spark.model.networks.registry import build_networks

CONTEXT, IMPRESSION, DIM = 3, 2, 4
WIDTH = (CONTEXT + IMPRESSION) * DIM
GROUP_INDEX = torch.tensor([0, 0, 1, 1, 1])
State = dict[str, Tensor]


def set_layers(layers: nn.Module, values: Sequence[Sequence[Tensor]]) -> None:
    """Sets linear layers and PReLUs in turns: (weight, bias), (slopes,), ..."""
    for layer, own in zip(layers.children(), values, strict=True):
        for parameter, value in zip(layer.parameters(), own, strict=True):
            assert parameter.shape == value.shape
            parameter.data = value


def batched(state: State, prefix: str, number: int) -> list[tuple[Tensor, ...]]:
    """Returns the layers below `prefix` of one perceptron of several."""
    found: list[tuple[Tensor, ...]] = []
    while (name := f"{prefix}.{len(found) // 2}") + ".weight" in state:
        weight, bias, slopes = (state[f"{name}.{kind}"][number] for kind in ("weight", "bias", "slopes"))
        found += [(weight, bias), (slopes,)]
    return found


def grouped(state: State, prefix: str, number: int) -> list[tuple[Tensor, ...]]:
    """Returns the layers of one perceptron over the fields, of several."""
    slopes = state[f"{prefix}.slopes"]
    weight, bias = (state[f"{prefix}.first.flat.{kind}"].chunk(len(slopes)) for kind in ("weight", "bias"))
    return [(weight[number], bias[number]), (slopes[number],), *batched(state, f"{prefix}.rest", number)]


def tower(state: State, head: int) -> list[tuple[Tensor, ...]]:
    last = state["towers.last.weight"][head], state["towers.last.bias"][head]
    return [*batched(state, "towers.hidden", head), last]


def perceptron(state: State, first: str) -> list[tuple[Tensor, ...]]:
    """Returns the layers of a network of one head."""
    linears = [(state[f"{name}.weight"], state[f"{name}.bias"]) for name in (first, "rest.1", "rest.3")]
    return [linears[0], (state["rest.0.weight"],), linears[1], (state["rest.2.weight"],), linears[2]]


def mlp(states: list[State]) -> nn.Module:
    twin = FlatMlp(WIDTH, [200, 80])
    for own, state in zip(twin.towers, states, strict=True):
        set_layers(own, perceptron(state, "first.flat"))
    return twin


def dcn(states: list[State]) -> nn.Module:
    twin = FlatDcn(WIDTH, 2, [200, 80])
    for crosses, own, state in zip(twin.crosses, twin.towers, states, strict=True):
        names = ("first_cross.flat", "crosses.0")
        set_layers(crosses, [(state[f"{name}.weight"], state[f"{name}.bias"]) for name in names])
        set_layers(own, perceptron(state, "first"))
    return twin


def mmoe(states: list[State]) -> nn.Module:
    twin, (state,) = FlatMmoe(WIDTH, 4, [128], [64]), states
    for number, expert in enumerate(twin.experts):
        set_layers(expert, grouped(state, "experts", number))
    set_layers(twin.gates, [(gate,) for gate in state["gates.flat.weight"].chunk(2)])
    for head, own in enumerate(twin.towers):
        set_layers(own, tower(state, head))
    return twin


def ple(states: list[State]) -> nn.Module:
    twin, (state,) = FlatPle(WIDTH, [[128], [128]], [64]), states
    for number in range(3):
        first_layer, second_layer = (list(layer.children()) for layer in twin.experts)
        set_layers(first_layer[number], grouped(state, "experts", number))
        set_layers(second_layer[number], batched(state, "extractions.0.experts", number))
    *first, shared = state["gates.flat.weight"].split([2, 2, 3])
    set_layers(twin.gates[0], [(gate,) for gate in first])
    set_layers(twin.gates[1], [(gate,) for gate in state["extractions.0.gates.weight"]])
    set_layers(twin.shared_gates, [(shared,)])
    for head, own in enumerate(twin.towers):
        set_layers(own, tower(state, head))
    return twin


def aitm(states: list[State]) -> nn.Module:
    twin, (state,) = FlatAitm(WIDTH, [128, 64, 32]), states
    for head, own in enumerate(twin.towers):
        set_layers(own, grouped(state, "towers", head))
    set_layers(twin.last, list(zip(state["last.weight"], state["last.bias"], strict=True)))
    weight, bias, slopes = (state[f"transfers.0.transferred.{kind}"] for kind in ("weight", "bias", "slopes"))
    set_layers(twin.transferred, [(weight[0], bias[0]), (slopes[0],)])
    value, query, key = state["transfers.0.attention.weight"].chunk(3)
    set_layers(nn.Sequential(twin.value, twin.query, twin.key), [(value,), (query,), (key,)])
    return twin


def din(states: list[State]) -> nn.Module:
    # The impression's second field attends.
    twin, (state,) = FlatDin(WIDTH, DIM, (CONTEXT + 1) * DIM, [36], [200, 80]), states
    own = {name.removeprefix("attentions.0."): value for name, value in state.items()}
    first, last = ((own[f"{name}.weight"], own[f"{name}.bias"]) for name in ("first", "rest.1"))
    set_layers(twin.attention, [first, (own["rest.0.weight"],), last])
    for head, tower in enumerate(twin.towers):
        prefix = f"towers.{head}."
        of_head = {name.removeprefix(prefix): value for name, value in state.items() if prefix in name}
        set_layers(tower, perceptron(of_head, "first.flat"))
    return twin


TWINS = [mlp, dcn, mmoe, ple, aitm]
HISTORY = FeatureSpec.model_validate(
    {
        "tables": {name: {"num_buckets": 5} for name in ("a", "b", "c", "item", "shop")},
        "fields": [
            {"name": "viewed", "table": "shop", "multi": True, "pooling": "none", "max_length": 4}
            | {"level": "context"},
            *({"name": name, "level": "context"} for name in "abc"),
            *({"name": name, "level": "impression"} for name in ("item", "shop")),
        ],
    }
)


def test_there_is_a_twin_of_each() -> None:
    assert {twin.__name__ for twin in TWINS} | {"din"} == set(NETWORKS)


@pytest.mark.parametrize("twin_of", TWINS)
def test_a_flat_network_gives_our_logits(twin_of: Callable[[list[State]], nn.Module]) -> None:
    networks = build_networks(twin_of.__name__, 2, CONTEXT, IMPRESSION, DIM)
    for network in networks:
        # PReLU's slopes, biases and the rest: all alike at first, so that a mistaken place would not show.
        for parameter in network.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape)
    twin = twin_of([network.state_dict() for network in networks])
    context, impression = torch.randn(2, CONTEXT, DIM), torch.randn(5, IMPRESSION, DIM)
    flat = torch.cat((context.flatten(1)[GROUP_INDEX], impression.flatten(1)), 1)
    logits = [network(context, impression, GROUP_INDEX) for network in networks]
    expected = logits[0] if logits[0].dim() == 2 else torch.stack(logits)
    torch.testing.assert_close(twin(flat), expected, rtol=1e-4, atol=1e-4)


def test_flat_din_gives_our_logits() -> None:
    (network,) = build_networks("din", 2, CONTEXT, IMPRESSION, DIM, feature_spec=HISTORY)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape)
    twin = din([network.state_dict()])
    context, impression = torch.randn(2, CONTEXT, DIM), torch.randn(5, IMPRESSION, DIM)
    mask = torch.arange(4) < torch.tensor([[2], [4]])
    values = torch.randn(2, 4, DIM) * mask[:, :, None]
    flat = torch.cat((context.flatten(1)[GROUP_INDEX], impression.flatten(1)), 1)
    expected = network(context, impression, GROUP_INDEX, [ValueSequence(values, mask)])
    found = twin(flat, values[GROUP_INDEX], mask[GROUP_INDEX])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_flat_batch_has_its_history_value_by_value_and_the_others_as_bags() -> None:
    flat = FlatBatch(
        rows=np.arange(10),
        weights=np.linspace(0.1, 1, 10, dtype=np.float32),
        lengths=np.array([[1, 3, 2], [2, 0, 2]]),
        click=np.zeros(2, np.float32),
        conversion=np.zeros(2, np.float32),
    )
    batch = ReferenceBatch(flat, 1)
    assert batch.rows.tolist() == [0, 4, 5, 6, 7, 8, 9]
    assert batch.weights.tolist() == [flat.weights[row] for row in batch.rows]
    assert batch.offsets.tolist() == [0, 1, 3, 5, 7]
    assert batch.history is not None
    rows, weights, mask = batch.history
    assert rows[0].tolist() == [1, 2, 3]
    assert weights.tolist() == [flat.weights[1:4].tolist(), [0, 0, 0]]
    assert mask.tolist() == [[True] * 3, [False] * 3]
    assert ReferenceBatch(flat).offsets.tolist() == [0, 1, 4, 6, 8, 8, 10]
    model = ReferenceEsmm(10, 2, DIM, FlatDin(2 * DIM, DIM, DIM, [3], [4]))
    assert ReferenceTrainer(model).step(batch) > 0
