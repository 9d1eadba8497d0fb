import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.model.networks.dcn import Dcn
from esmm_spark.model.networks.layers import GroupedLinear
from esmm_spark.model.networks.mlp import Mlp
from esmm_spark.model.networks.registry import BUILT_IN, accepted_options, build_network, resolve_network

GROUPS, CONTEXT, IMPRESSION, DIM = 3, 4, 2, 5
# The second group has no impressions.
GROUP_INDEX = torch.tensor([0, 0, 0, 2, 2])


def features(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(GROUPS, CONTEXT, DIM, generator=generator),
        torch.randn(len(GROUP_INDEX), IMPRESSION, DIM, generator=generator),
    )


def flat(context: Tensor, impression: Tensor) -> Tensor:
    """Returns [N, (Fc + Fi) * D]: every impression with a copy of its context."""
    return torch.cat((context.flatten(1)[GROUP_INDEX], impression.flatten(1)), dim=1)


def test_a_grouped_layer_equals_the_flat_layer_and_so_do_its_gradients() -> None:
    torch.manual_seed(1)
    context, impression = (t.double().requires_grad_() for t in features())
    layer = GroupedLinear(CONTEXT * DIM, IMPRESSION * DIM, 7).double()
    inputs = [context, impression, *layer.parameters()]

    grouped = layer(context.flatten(1), impression.flatten(1), GROUP_INDEX)
    plain = layer.flat(flat(context, impression))

    torch.testing.assert_close(grouped, plain, rtol=1e-12, atol=1e-12)
    weights = torch.randn(plain.shape, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad((grouped * weights).sum(), inputs),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("hidden_units", [(), (6,), (6, 3)])
def test_mlp_equals_the_flat_perceptron(hidden_units: tuple[int, ...], activation: str) -> None:
    torch.manual_seed(2)
    mlp = Mlp(CONTEXT, IMPRESSION, DIM, hidden_units=hidden_units, activation=activation)
    context, impression = features()

    x = mlp.first.flat(flat(context, impression))
    for layer in mlp.rest:
        x = layer(x)

    torch.testing.assert_close(mlp(context, impression, GROUP_INDEX), x[:, 0], rtol=1e-5, atol=1e-6)
    widths = [layer.out_features for layer in mlp.modules() if isinstance(layer, nn.Linear)]
    assert widths == [*hidden_units, 1]
    assert sum(isinstance(layer, nn.PReLU) for layer in mlp.modules()) == (
        len(hidden_units) if activation == "prelu" else 0
    )


@pytest.mark.parametrize("cross_layers", [1, 3])
def test_dcn_equals_its_formula(cross_layers: int) -> None:
    torch.manual_seed(3)
    dcn = Dcn(CONTEXT, IMPRESSION, DIM, cross_layers=cross_layers, hidden_units=(6, 3), activation="relu")
    context, impression = features()

    x_0 = flat(context, impression)
    x = x_0
    for cross in (dcn.first_cross.flat, *dcn.crosses):
        x = x_0 * (x @ cross.weight.T + cross.bias) + x
    linears = [dcn.first, *(layer for layer in dcn.rest if isinstance(layer, nn.Linear))]
    for linear in linears[:-1]:
        x = torch.relu(x @ linear.weight.T + linear.bias)
    expected = (x @ linears[-1].weight.T + linears[-1].bias)[:, 0]

    assert len(dcn.crosses) == cross_layers - 1
    torch.testing.assert_close(dcn(context, impression, GROUP_INDEX), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "dcn"])
def test_no_impressions_give_no_logits(name: str) -> None:
    network = build_network(name, CONTEXT, IMPRESSION, DIM)
    none = network(torch.zeros(0, CONTEXT, DIM), torch.zeros(0, IMPRESSION, DIM), torch.zeros(0).long())
    assert none.shape == (0,)


@pytest.mark.parametrize("name", ["mlp", "dcn"])
def test_the_global_seed_decides_the_initial_parameters(name: str) -> None:
    def build(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return build_network(name, CONTEXT, IMPRESSION, DIM).state_dict()

    first, again, other = build(7), build(7), build(8)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


OWN = """
from torch import nn
class Bilinear(nn.Module):
    def __init__(self, num_context_features, num_impression_features, dim, scale=1.0):
        super().__init__()
        self.scale = scale
        self.rest = nn.Linear(num_context_features * dim, num_impression_features * dim)
    def forward(self, context, impression, group_index):
        share = self.rest(context.flatten(1))[group_index]
        return self.scale * (share * impression.flatten(1)).sum(1)
class Failing(nn.Module):
    def __init__(self, num_context_features, num_impression_features, dim):
        super().__init__()
        self.rest = nn.Linear(-dim, 1)
class NoModule:
    pass
NUMBER = 3
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    return "own_networks"


def test_a_network_of_the_users_own_is_found_by_module_and_class(own_module: str) -> None:
    network = build_network(f"{own_module}:Bilinear", CONTEXT, IMPRESSION, DIM, scale=2.0)
    logit = network(*features(), GROUP_INDEX)
    assert logit.shape == (len(GROUP_INDEX),)
    assert network.scale == 2.0


def test_only_options_that_a_network_names_reach_it(own_module: str) -> None:
    shared = {"hidden_units": [4], "activation": "relu"}
    assert accepted_options("mlp", shared) == shared
    assert accepted_options(f"{own_module}:Bilinear", shared) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mpl",
            f"model.network = 'mpl' is unknown: allowed are {', '.join(BUILT_IN)}, or a class of",
        ),
        ("own_networks:", "is unknown: allowed are mlp, dcn"),
        (":Bilinear", "is unknown"),
        ("no_such_module:Net", "can't import no_such_module .*No module named"),
        ("own_networks:Missing", "own_networks has no Missing"),
        ("own_networks:NoModule", "not a torch.nn.Module class"),
        ("own_networks:NUMBER", "is 3, not a torch.nn.Module class"),
    ],
)
def test_a_wrong_network_name_says_what_is_allowed(own_module: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_network(name)


def test_a_wrong_option_says_how_the_network_is_built() -> None:
    with pytest.raises(ConfigError, match=r"mlp does not take .*depth=3\).*Mlp\(num_context_features"):
        build_network("mlp", CONTEXT, IMPRESSION, DIM, depth=3)
    with pytest.raises(ConfigError, match="activation = 'gelu': allowed are relu, prelu"):
        build_network("mlp", CONTEXT, IMPRESSION, DIM, activation="gelu")
    with pytest.raises(ConfigError, match="cross_layers = 0: network dcn needs a whole number, at least 1"):
        build_network("dcn", CONTEXT, IMPRESSION, DIM, cross_layers=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mlp",
            {"hidden_units": "abc"},
            r"hidden_units = 'abc': must be a list of whole numbers, each at least 1",
        ),
        ("mlp", {"hidden_units": [-3]}, r"hidden_units = \[-3\]: must be"),
        ("dcn", {"hidden_units": [0]}, r"hidden_units = \[0\]: must be"),
        ("dcn", {"hidden_units": [True]}, r"hidden_units = \[True\]: must be"),
        ("mlp", {"hidden_units": [8, 2.5]}, r"hidden_units = \[8, 2\.5\]: must be"),
        ("mlp", {"dim": 3}, r"mlp does not take .*dim=3\): multiple values for argument 'dim'"),
        ("mlp", {"name": "x"}, r"mlp does not take .*name='x'\): got an unexpected keyword argument 'name'"),
        ("dcn", {"cross_layers": 1.5}, r"cross_layers = 1\.5: network dcn needs a whole number, at least 1"),
        ("mlp", {"activation": ["relu"]}, r"activation = \['relu'\]: allowed are relu, prelu"),
        (
            "own_networks:Failing",
            {},
            r"own_networks:Failing can't be built with .*RuntimeError: Trying to create tensor with neg",
        ),
    ],
)
def test_wrong_options_are_told_in_one_line(
    own_module: str, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_network(name, CONTEXT, IMPRESSION, DIM, **options)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_at_its_import_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_networks.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"can't import broken_networks: ZeroDivisionError.*py, line 1\)"):
        resolve_network("broken_networks:Net")
