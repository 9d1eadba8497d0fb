"""The bench's flat networks compute what ours do: with our parameters they give our logits."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from bench.flat_networks import FlatAitm, FlatDcn, FlatMlp, FlatMmoe, FlatPle
from bench.stages.networks import NETWORKS
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


TWINS = [mlp, dcn, mmoe, ple, aitm]


def test_there_is_a_twin_of_each() -> None:
    assert {twin.__name__ for twin in TWINS} == set(NETWORKS)


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
