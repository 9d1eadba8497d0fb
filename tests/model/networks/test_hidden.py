"""Layer norm and dropout of hidden layers: plain twins, what a mask follows from, options out of range."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model, Train
from esmm_spark.model.embedding.embedded import EmbeddedBatch, ValueSequence
from esmm_spark.model.esmm import Esmm, build_esmm
from esmm_spark.model.networks.dropout import KeyedDropout, draw_by
from esmm_spark.model.networks.experts import BatchedLayer
from esmm_spark.model.networks.hidden import Hidden, after_linear
from esmm_spark.runtime.splitmix import GOLDEN, splitmix64
from esmm_spark.training.optimization.dense import dense_optimizer
from esmm_spark.training.seeding import impression_keys
from tests.synthetic_examples import SPEC, UNPOOLED

N, H, E = 500, 10, 3
NETWORKS = ["mlp", "dcn", "mmoe", "ple", "aitm", "din"]
CPU = torch.device("cpu")


def keys(step: int = 0, places: Any = None) -> Tensor:
    return impression_keys(7, step, np.arange(N) if places is None else np.array(places), CPU)


def mask_of(dropout: KeyedDropout, x: Tensor) -> Tensor:
    mask: Tensor = dropout.train()(torch.ones_like(x))
    return mask


def test_a_mask_is_the_hash_of_impression_and_unit() -> None:
    dropout = KeyedDropout(0.3)
    dropout.set_keys(keys()[:20])
    found = mask_of(dropout, torch.empty(20, H))
    for impression, key in enumerate(keys()[:20].numpy().view(np.uint64)):
        for unit in range(H):
            with np.errstate(over="ignore"):
                word = splitmix64(np.array([key + np.uint64(unit // 4 + 1) * GOLDEN]))
            bits = word.view(np.int16)[unit % 4]
            expected = 0 if bits < round(0.3 * 65536) - 32768 else 1 / (1 - dropout.p)
            assert found[impression, unit] == pytest.approx(expected)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_units_are_dropped_with_the_probability_and_the_mean_stays(p: float) -> None:
    dropout = KeyedDropout(p)
    dropout.set_keys(impression_keys(1, 3, np.arange(20_000), CPU))
    mask = mask_of(dropout, torch.empty(20_000, H))
    assert (mask == 0).float().mean(0).numpy() == pytest.approx(np.full(H, p), abs=0.015)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.02)
    pairs = torch.corrcoef(mask.T) - torch.eye(H)
    assert float(pairs.abs().max()) < 0.03


def test_masks_are_the_impressions_own_and_others_in_each_layer_step_and_run() -> None:
    first, second = KeyedDropout(0.5), KeyedDropout(0.5)
    x = torch.empty(N, H)
    draw_by([first, second], keys())
    whole, other_layer = mask_of(first, x), mask_of(second, x)
    places = [400, 3, 77]
    draw_by([first, second], keys(places=places))
    assert torch.equal(mask_of(first, x[:3]), whole[places])
    draw_by([first, second], keys(step=1))
    other_step = mask_of(first, x)
    draw_by([first], impression_keys(8, 0, np.arange(N), CPU))
    other_run = mask_of(first, x)
    for other in (other_layer, other_step, other_run):
        assert 0.4 < float((other == whole).float().mean()) < 0.6


def test_perceptrons_side_by_side_have_masks_of_their_own() -> None:
    dropout = KeyedDropout(0.5)
    dropout.set_keys(keys())
    mask = mask_of(dropout, torch.empty(E, N, H))
    assert mask.shape == (E, N, H)
    assert 0.4 < float((mask[0] == mask[1]).float().mean()) < 0.6
    dropout.set_keys(keys(places=[9, 8]))
    assert torch.equal(mask_of(dropout, torch.empty(E, 2, H)), mask[:, [9, 8]])


def test_nothing_is_dropped_out_in_evaluation_and_torch_draws_where_there_are_no_keys() -> None:
    dropout, x = KeyedDropout(0.5), torch.randn(N, H)
    assert dropout.eval()(x) is x
    torch.manual_seed(1)
    drawn = mask_of(dropout, x)
    assert 0.4 < float((drawn == 0).float().mean()) < 0.6


@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_batched_layers_with_layer_norm_are_the_formula_of_each(activation: str) -> None:
    layer = BatchedLayer(E, H, H, Hidden(activation, layer_norm=True))
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = 3 * torch.randn(E, N, H) + 1
    own = {name: parameter.detach().double() for name, parameter in layer.named_parameters()}
    for number, found in enumerate(layer(x)):
        y = x[number].double() @ own["weight"][number].T + own["bias"][number]
        mean, variance = y.mean(1, keepdim=True), y.var(1, unbiased=False, keepdim=True)
        normal = (y - mean) / (variance + 1e-5).sqrt() * own["norm.gain"][number] + own["norm.bias"][number]
        slopes = own["slopes"][number] if activation == "prelu" else 0.0
        expected = torch.where(normal > 0, normal, slopes * normal)
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_a_perceptrons_hidden_layer_is_norm_activation_dropout(activation: str) -> None:
    layers = after_linear(Hidden(activation, 0.2, layer_norm=True), H)
    assert [type(layer).__name__ for layer in layers] == [
        "LayerNorm",
        "Prelu" if activation == "prelu" else "ReLU",
        "KeyedDropout",
    ]
    assert len(after_linear(Hidden(activation), H)) == 1


def model_of(network: str, **options: Any) -> Esmm:
    torch.manual_seed(2)
    settings = Model.model_validate({"network": network, "dim": 4, "network_options": options})
    return build_esmm(settings, spec_of(network), resolve(settings, [], DEFAULT_TASKS))


def spec_of(network: str) -> FeatureSpec:
    return UNPOOLED if network == "din" else SPEC


def inputs_of(network: str, groups: int) -> EmbeddedBatch:
    generator, spec = torch.Generator().manual_seed(4), spec_of(network)
    context = torch.randn(groups, len(spec.pooled_context_fields), 4, generator=generator)
    impression = torch.randn(2 * groups, len(spec.impression_fields), 4, generator=generator)
    lengths = torch.arange(groups)[:, None] % 4
    values = torch.randn(groups, 3, 4, generator=generator)
    sequences = [ValueSequence(values, torch.arange(3) < lengths) for _ in spec.sequence_fields]
    return EmbeddedBatch(context, impression, torch.full((groups,), 2), tuple(sequences))


def groups_of(inputs: EmbeddedBatch, groups: slice) -> EmbeddedBatch:
    own = slice(2 * groups.start, 2 * groups.stop)
    sequences = [ValueSequence(values[groups], mask[groups]) for values, mask in inputs.sequences]
    sizes = inputs.group_sizes[groups]
    return EmbeddedBatch(inputs.context[groups], inputs.impression[own], sizes, tuple(sequences))


@pytest.mark.parametrize("network", NETWORKS)
def test_in_every_network_each_impression_is_dropped_out_of_alone(network: str) -> None:
    model = model_of(network, dropout=0.4, layer_norm=True).train()
    without = copy.deepcopy(model)
    for dropout in without.dropouts:
        dropout._dropped = 0
    inputs = inputs_of(network, 6)
    draw_by(model.dropouts, keys()[:12])
    whole = model(*inputs)
    assert whole.shape == (2, 12)
    assert not torch.allclose(whole, without(*inputs))
    # As on two ranks: the same impressions, in two shares.
    halves = []
    for half in (slice(0, 4), slice(4, 6)):
        draw_by(model.dropouts, keys()[2 * half.start : 2 * half.stop])
        halves.append(model(*groups_of(inputs, half)))
    torch.testing.assert_close(torch.cat(halves, 1), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.eval()(*inputs), without(*inputs), rtol=0, atol=0)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.slow
def test_in_every_network_only_matrices_decay(network: str) -> None:
    model = model_of(network, layer_norm=True, activation="prelu")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, others = dense_optimizer(model, Train(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    linear = {
        id(module.weight)
        for module in model.modules()
        if type(module).__name__ in ("Linear", "BatchedLinear", "BatchedLayer")
        and isinstance(module.weight, Tensor)
    }
    assert {names[id(parameter)] for parameter in decayed["params"]} == {names[key] for key in linear}
    assert len(decayed["params"]) + len(others["params"]) == len(names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, r"dropout = 1\.0: must be a probability, at least 0 and below 1"),
        ({"dropout": -0.1}, r"dropout = -0\.1"),
        ({"dropout": True}, r"dropout = True"),
        ({"dropout": "0.1"}, r"dropout = '0\.1'"),
        ({"layer_norm": 1}, r"layer_norm = 1: must be true or false"),
    ],
)
@pytest.mark.parametrize("network", NETWORKS)
def test_options_out_of_range_are_told_in_one_line(network: str, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        model_of(network, **options)
    assert "\n" not in str(caught.value)


def test_a_perceptron_with_either_option_says_why_it_is_not_fused() -> None:
    x = torch.empty(0)
    assert model_of("mlp", dropout=0.1).why_not_fused(x) == "the network has dropout"
    both = model_of("mlp", dropout=0.1, layer_norm=True)
    assert both.why_not_fused(x) == "the network has dropout and layer norm"
    assert model_of("mlp", dropout=0.0, layer_norm=False).why_not_fused(x) is None
