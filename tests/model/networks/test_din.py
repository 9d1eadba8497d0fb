"""din against flat float64 PyTorch that knows nothing of groups, and what it refuses."""

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.feed.batch import TokenBatch
from esmm_spark.model import esmm as model
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.embedded import ValueSequence
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import Esmm
from esmm_spark.model.networks import attention
from esmm_spark.model.networks.attention import TargetAttention

DIM, STEPS, RATE, ROW_RATE, ROW_EPS = 4, 20, 0.1, 0.1, 1e-8
UNITS, HIDDEN = [6, 3], [7, 5]
CONTENT: dict[str, Any] = {
    "tables": {"user": {"num_buckets": 15}, "item": {"num_buckets": 20}, "shop": {"num_buckets": 6}},
    "fields": [
        {"name": "viewed", "level": "context", "table": "item", "multi": True, "weighted": True},
        {"name": "shops", "level": "context", "table": "shop", "multi": True},
        {"name": "user", "level": "context"},
        {"name": "item", "level": "impression"},
        {"name": "shop", "level": "impression"},
    ],
}
CONTENT["fields"][0] |= {"pooling": "none", "max_length": 9}
CONTENT["fields"][1] |= {"pooling": "none", "max_length": 3}
SPEC = FeatureSpec.model_validate(CONTENT)


def build(spec: FeatureSpec = SPEC, **options: Any) -> Esmm:
    settings = Model(
        network="din",
        network_options={"attention": {"units": UNITS, **options}},
        dim=DIM,
        hidden_units=HIDDEN,
    )
    return model.build_esmm(settings, spec, resolve(settings, [], DEFAULT_TASKS))


def batch(seed: int) -> tuple[TokenBatch, Tensor]:
    """Returns groups of 1 to 5 impressions with 0 to 9 viewed items and 0 to 3 shops, and labels [2, N]."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, count: int) -> Tensor:
        return torch.randint(low, high, (count,), generator=generator)

    sizes = draw(1, 6, 12)
    lengths = torch.stack([draw(0, 10, 12), draw(0, 4, 12), torch.ones(12, dtype=torch.int64)], 1)
    # Bags of all fields of all groups, each token drawn from its field's table.
    firsts = torch.tensor([SPEC.offsets[name] for name in ("item", "shop", "user")]).repeat(12)
    most = torch.tensor([20, 6, 15]).repeat(12)
    drawn = torch.rand(int(lengths.sum()), generator=generator)
    per_token = [x.repeat_interleave(lengths.flatten()) for x in (firsts, most)]
    rows = per_token[0] + (drawn * per_token[1]).long()
    weights = torch.where(per_token[0] == SPEC.offsets["item"], 0.5 + drawn, 1.0)
    count = int(sizes.sum())
    items, shops = SPEC.offsets["item"] + draw(0, 20, count), SPEC.offsets["shop"] + draw(0, 6, count)
    click = torch.rand(count, generator=generator) < 0.4
    tokens = TokenBatch(
        rows.int(),
        weights,
        lengths.flatten().int(),
        torch.stack([items, shops], 1).flatten().int(),
        torch.ones(2 * count),
        torch.ones(2 * count, dtype=torch.int32),
        sizes,
    )
    return tokens, torch.stack([click, click & (torch.rand(count, generator=generator) < 0.5)]).float()


class FlatDin:
    """din as the paper writes it, of one impression with its own copy of its context after the other."""

    def __init__(self, esmm: Esmm, arena: EmbeddingArena, normalize: bool) -> None:
        self.dense = {name: value.double().clone() for name, value in esmm.state_dict().items()}
        self.rows = arena.local_rows().double().clone()
        self.row_state = torch.zeros(len(self.rows), dtype=torch.float64)
        self.normalize = normalize

    def step(self, tokens: TokenBatch, labels: Tensor) -> float:
        for value in (self.rows, *self.dense.values()):
            value.requires_grad_()
        p = torch.stack([self._probabilities(*own) for own in _impressions(tokens)], dim=1)
        pctr, pctcvr = p[0], p[0] * p[1]
        click, conversion = labels.double()
        loss = F.binary_cross_entropy(pctr, click) + F.binary_cross_entropy(pctcvr, click * conversion)
        of_rows, *gradients = torch.autograd.grad(loss, [self.rows, *self.dense.values()])
        with torch.no_grad():
            steps = zip(self.dense.items(), gradients, strict=True)
            self.dense = {name: value - RATE * gradient for (name, value), gradient in steps}
            self.row_state += of_rows.square().mean(1)
            self.rows = self.rows - ROW_RATE * of_rows / (self.row_state.sqrt() + ROW_EPS)[:, None]
        return loss.item()

    def _probabilities(self, bags: list[list[tuple[int, float]]], own: list[int]) -> Tensor:
        viewed, shops, user = ([weight * self.rows[row] for row, weight in bag] for bag in bags)
        item, shop = (self.rows[row] for row in own)
        attended = [self._attended(0, viewed, item), self._attended(1, shops, shop)]
        x = torch.cat([*user, item, shop, *attended])
        return torch.sigmoid(torch.cat([self._perceptron(f"towers.0.towers.{h}", x) for h in (0, 1)]))

    def _attended(self, history: int, keys: list[Tensor], query: Tensor) -> Tensor:
        if not keys:
            return torch.zeros(DIM, dtype=torch.float64)
        name = f"towers.0.attentions.{history}"
        pairs = [torch.cat([key, query, key - query, key * query]) for key in keys]
        scores = torch.cat([self._perceptron(name, pair) for pair in pairs])
        if self.normalize:
            scores = scores.exp() / scores.exp().sum()
        return torch.stack([score * key for score, key in zip(scores, keys, strict=True)]).sum(0)

    def _perceptron(self, name: str, x: Tensor) -> Tensor:
        first = f"{name}.first.flat" if f"{name}.first.flat.weight" in self.dense else f"{name}.first"
        x = self.dense[f"{first}.weight"] @ x + self.dense[f"{first}.bias"]
        for layer in (0, 2):
            slopes = self.dense[f"{name}.rest.{layer}.weight"]
            x = torch.where(x > 0, x, slopes * x)
            x = (
                self.dense[f"{name}.rest.{layer + 1}.weight"] @ x
                + self.dense[f"{name}.rest.{layer + 1}.bias"]
            )
        return x


def _impressions(tokens: TokenBatch) -> list[tuple[list[list[tuple[int, float]]], list[int]]]:
    """Returns of each impression its context's bags of (row, weight), and its own two rows."""
    pairs = list(zip(tokens.context_rows.tolist(), tokens.context_weights.tolist(), strict=True))
    own = tokens.impression_rows.view(-1, 2).tolist()
    found, at, first = [], 0, 0
    for lengths, size in zip(
        tokens.context_lengths.view(-1, 3).tolist(), tokens.group_sizes.tolist(), strict=True
    ):
        bags = []
        for length in lengths:
            bags.append(pairs[at : at + length])
            at += length
        found += [(bags, own[first + i]) for i in range(size)]
        first += size
    return found


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pairs_of_chunk", [1, 60, 10**6])
@pytest.mark.slow
def test_twenty_steps_are_those_of_the_paper_on_each_impression_alone(
    pairs_of_chunk: int, normalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_PAIRS_OF_CHUNK", pairs_of_chunk)
    torch.manual_seed(3)
    network = build(normalize=normalize)
    arena = EmbeddingArena(
        SPEC.num_rows, DIM, optimizer=RowOptimizer(ROW_RATE, ROW_EPS), init_range=0.8, seed=1
    )
    plain, sgd = FlatDin(network, arena, normalize), torch.optim.SGD(network.parameters(), lr=RATE)
    losses, expected = [], []
    for step in range(STEPS if pairs_of_chunk == 60 else 3):
        tokens, labels = batch(step)
        loss = network.training_loss(embed_batch(arena, tokens, SPEC), labels, 1 / labels.shape[1])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
        expected.append(plain.step(tokens, labels))
    assert losses == pytest.approx(expected, rel=2e-5)
    torch.testing.assert_close(arena.local_rows().double(), plain.rows.detach(), rtol=1e-4, atol=2e-5)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value.double(), plain.dense[name].detach(), rtol=1e-4, atol=2e-5)


def test_padding_and_the_other_groups_of_a_batch_change_nothing() -> None:
    torch.manual_seed(5)
    unit = TargetAttention(DIM, UNITS).double()
    values, query = torch.randn(3, 6, DIM).double(), torch.randn(4, DIM).double()
    lengths, group_index = torch.tensor([6, 0, 2]), torch.tensor([0, 0, 1, 2])
    mask = torch.arange(6) < lengths[:, None]
    found = unit(ValueSequence(values, mask), query, group_index)
    assert torch.equal(found[2], torch.zeros(DIM).double())
    for place, group in enumerate(group_index.tolist()):
        alone = ValueSequence(
            values[group : group + 1, : lengths[group]], mask[group : group + 1, : lengths[group]]
        )
        if lengths[group]:
            own = unit(alone, query[place : place + 1], torch.tensor([0]))
            torch.testing.assert_close(found[place : place + 1], own)


def test_chunks_hold_each_impression_once_and_few_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(7)
    for _ in range(300):
        sizes = [draw.choice([0, 1, 2, 5, 9]) for _ in range(draw.randint(1, 6))]
        lengths = torch.tensor([draw.randint(0, 7) for _ in sizes])
        groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        limit = draw.choice([1, 3, 8, 20, 1000])
        monkeypatch.setattr(attention, "_PAIRS_OF_CHUNK", limit)
        seen: list[int] = []
        for chunk in attention._chunks(torch.arange(7) < lengths[:, None], groups):
            own = groups[chunk.impressions].tolist()
            assert chunk.groups.start <= own[0] <= own[-1] < chunk.groups.stop
            assert max(lengths[own]) <= chunk.longest
            assert len(own) * chunk.longest <= limit or len(own) == 1
            seen += range(chunk.impressions.start, chunk.impressions.stop)
        assert seen == list(range(sum(sizes)))


@pytest.mark.parametrize("pairs_of_chunk", [1, 10**6])
def test_gradients_are_those_of_finite_differences(
    pairs_of_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_PAIRS_OF_CHUNK", pairs_of_chunk)
    torch.manual_seed(6)
    unit = TargetAttention(2, [3]).double()
    values, query = torch.randn(2, 3, 2).double(), torch.randn(3, 2).double()
    mask, index = torch.tensor([[True, True, True], [True, False, False]]), torch.tensor([0, 0, 1])

    def attended(values: Tensor, query: Tensor) -> Tensor:
        found: Tensor = unit(ValueSequence(values, mask), query, index)
        return found

    assert torch.autograd.gradcheck(attended, (values.requires_grad_(), query.requires_grad_()))


def changed(field: str, **keys: Any) -> FeatureSpec:
    fields = [{**one, **keys} if one["name"] == field else one for one in CONTENT["fields"]]
    names = {one.get("table", one["name"]) for one in fields}
    tables = {name: size for name, size in CONTENT["tables"].items() if name in names}
    return FeatureSpec.model_validate({"tables": tables, "fields": fields})


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (
            changed("shop", table="user"),
            {},
            "needs the impression's field that attends to shops, and those of its table shop are none: give",
        ),
        (
            changed("shop", table="item"),
            {"targets": {"shops": "shop"}},
            "needs the impression's field that attends to viewed, and those of its table item are item, "
            "shop: name one in attention.targets",
        ),
        (
            SPEC,
            {"targets": {"viewed": "shop"}},
            "attention.targets viewed: shop, which is of table shop: vectors of two tables can't be "
            "compared, those of its table item are item",
        ),
        (SPEC, {"targets": {"viewed": "user"}}, "viewed: user, which is no field of impressions: vectors"),
        (SPEC, {"targets": {"user": "item"}}, "of the fields with pooling: none: viewed, shops"),
        (
            SPEC,
            {"targets": "item"},
            "attention.targets = 'item': it must be history -> the impression's field",
        ),
        (SPEC, {"heads": 2}, "it must hold some of units, normalize, targets"),
        (SPEC, {"units": []}, "attention.units = []: must be a list of one or more whole numbers"),
        (SPEC, {"units": [0]}, "attention.units = [0]: must be a list of one or more"),
        (SPEC, {"normalize": 1}, "attention.normalize = 1: must be true or false"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(spec: FeatureSpec, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(spec, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_of_several_fields_of_a_table_is_named() -> None:
    fields = [one for one in CONTENT["fields"] if one["name"] != "shops"]
    fields[-1] = {"name": "shop", "level": "impression", "table": "item"}
    spec = FeatureSpec.model_validate(
        {"tables": {name: CONTENT["tables"][name] for name in ("user", "item")}, "fields": fields}
    )
    network = build(spec, targets={"viewed": "shop"})
    assert network.towers[0].targets == [1]


def test_without_a_history_din_is_refused_and_with_one_the_networks_that_pool() -> None:
    pooled = [{**one, "pooling": "sum", "max_length": None} for one in CONTENT["fields"]]
    with pytest.raises(ConfigError, match="din attends to a history, but no field has pooling: none"):
        build(FeatureSpec.model_validate({**CONTENT, "fields": pooled}))
    for name in ("mlp", "dcn"):
        settings = Model(network=name)
        with pytest.raises(
            ConfigError,
            match=f"fields viewed, shops have pooling: none, but model.network {name} takes pooled",
        ):
            model.build_esmm(settings, SPEC, resolve(settings, [], DEFAULT_TASKS))
