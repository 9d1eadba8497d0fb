from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esmm_spark.contracts import train_config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.feed.batch import TokenBatch
from esmm_spark.model import esmm as model
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import Esmm
from esmm_spark.model.objectives.probabilities import predict

# Two context fields of one table and two impression fields; the arena has rows 0 to 16.
SPEC = FeatureSpec.model_validate(
    {
        "tables": {"user": {"num_buckets": 7}, "item": {"num_buckets": 6}, "shop": {"num_buckets": 4}},
        "fields": [
            {"name": "viewed", "level": "context", "table": "user", "multi": True},
            {"name": "item", "level": "impression"},
            {"name": "bought", "level": "context", "table": "user", "multi": True},
            {"name": "shop", "level": "impression", "multi": True},
        ],
    }
)
DIM = 3


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


# Groups of 2 and 1 impressions.
BATCH = TokenBatch(
    context_rows=int32(1, 2, 3, 4),
    context_weights=torch.tensor([1.0, 0.5, 1.0, 2.0]),
    context_lengths=int32(2, 0, 1, 1),
    impression_rows=int32(7, 13, 8, 14, 15, 9),
    impression_weights=torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5, 1.0]),
    impression_lengths=int32(1, 1, 1, 2, 1, 0),
    group_sizes=int32(2, 1),
)


ESMM = resolve(train_config.Model(), [], DEFAULT_TASKS)


def build_esmm(settings: train_config.Model) -> Esmm:
    return model.build_esmm(settings, SPEC, resolve(settings, [], DEFAULT_TASKS))


def make_arena(copies: int = 1) -> EmbeddingArena:
    return EmbeddingArena(copies * SPEC.num_rows, DIM, optimizer=RowOptimizer(0.1), init_range=0.5, seed=1)


def one_piece(batch: TokenBatch, gap: int) -> TokenBatch:
    """Returns the batch with its contexts' and impressions' tokens in one piece, `gap` numbers apart."""
    found: dict[str, Tensor] = {}
    for kind in ("rows", "weights", "lengths"):
        own, other = (getattr(batch, f"{level}_{kind}") for level in ("context", "impression"))
        whole = torch.cat((own[:1] * 0 + 99, own, own[:1].expand(gap), other))[1:]
        found |= {f"context_{kind}": whole[: len(own)], f"impression_{kind}": whole[len(own) + gap :]}
    return replace(batch, **found)


@pytest.mark.parametrize("batch", [BATCH, one_piece(BATCH, gap=0), one_piece(BATCH, gap=1)])
def test_a_batch_is_looked_up_field_by_field(batch: TokenBatch) -> None:
    arena = make_arena()
    row = arena.local_rows().clone()

    context, impression, *_ = embed_batch(arena, batch, SPEC)

    zero = torch.zeros(DIM)
    expected_context = [[row[1] + 0.5 * row[2], zero], [row[3], 2 * row[4]]]
    expected_impression = [[row[7], row[13]], [row[8], 0.5 * row[14] + 0.5 * row[15]], [row[9], zero]]
    torch.testing.assert_close(context, torch.stack([torch.stack(group) for group in expected_context]))
    torch.testing.assert_close(impression, torch.stack([torch.stack(own) for own in expected_impression]))


def test_base_reads_an_embedding_of_its_own_for_each_tower() -> None:
    arena = make_arena(copies=2)
    row = arena.local_rows().clone()
    context, impression, *_ = embed_batch(arena, BATCH, SPEC)

    assert context.shape == (2, 2, 2 * DIM)
    assert impression.shape == (3, 2, 2 * DIM)
    torch.testing.assert_close(context[1, 1], torch.cat((2 * row[4], 2 * row[4 + SPEC.num_rows])))
    torch.testing.assert_close(impression[1, 0], torch.cat((row[8], row[8 + SPEC.num_rows])))


def test_an_unpooled_field_is_looked_up_value_by_value_once_per_group() -> None:
    content = SPEC.model_dump()
    content["fields"][0] |= {"pooling": "none", "max_length": 5, "weighted": True}
    spec = FeatureSpec.model_validate(content)
    for copies in (1, 2):
        arena = make_arena(copies)
        row = arena.local_rows().clone().view(copies, SPEC.num_rows, DIM).transpose(0, 1).flatten(1)
        context, impression, sizes, (sequence,) = embed_batch(arena, BATCH, spec)

        pooled_context, pooled_impression, *_ = embed_batch(make_arena(copies), BATCH, SPEC)
        torch.testing.assert_close(context, pooled_context[:, 1:])
        torch.testing.assert_close(impression, pooled_impression)
        assert torch.equal(sizes, BATCH.group_sizes)
        zero = torch.zeros(copies * DIM)
        expected = [[row[1], 0.5 * row[2]], [row[3], zero]]
        torch.testing.assert_close(sequence.values, torch.stack([torch.stack(own) for own in expected]))
        assert sequence.mask.tolist() == [[True, True], [True, False]]

        sequence.values[0, 1].sum().backward()
        changed = (arena.local_rows() != make_arena(copies).local_rows()).any(1).nonzero().flatten().tolist()
        assert changed == [2, 2 + SPEC.num_rows][:copies]


def test_histories_without_values_are_one_column_of_padding() -> None:
    content = SPEC.model_dump()
    content["fields"][0] |= {"pooling": "none", "max_length": 5}
    spec = FeatureSpec.model_validate(content)
    without = replace(
        BATCH, context_rows=int32(4), context_weights=torch.ones(1), context_lengths=int32(0, 0, 0, 1)
    )
    none, empty = int32(), torch.zeros(0)
    for batch, num_groups in ((without, 2), (TokenBatch(none, empty, none, none, empty, none, none), 0)):
        context, _, _, (sequence,) = embed_batch(make_arena(), batch, spec)
        assert context.shape == (num_groups, 1, DIM)
        assert sequence.values.shape == (num_groups, 1, DIM)
        assert sequence.mask.shape == (num_groups, 1)
        assert not sequence.mask.any()


def test_no_groups_are_looked_up_all_the_same() -> None:
    none, empty = int32(), torch.zeros(0)
    context, impression, *_ = embed_batch(
        make_arena(), TokenBatch(none, empty, none, none, empty, none, none), SPEC
    )
    assert context.shape == (0, 2, DIM)
    assert impression.shape == (0, 2, DIM)


@pytest.mark.parametrize("network", ["mlp", "dcn"])
@pytest.mark.parametrize("objective", ["esmm", "base"])
def test_each_objective_trains_the_rows_that_it_should(objective: str, network: str) -> None:
    torch.manual_seed(4)
    settings = train_config.Model.model_validate(
        {"network": network, "objective": objective, "dim": DIM, "hidden_units": [5]}
    )
    esmm = build_esmm(settings)
    arena = make_arena(esmm.objective.num_embeddings)
    before = arena.local_rows().clone()

    logits = esmm(*embed_batch(arena, BATCH, SPEC))
    # Only the second impression was clicked.
    esmm.loss(logits, torch.stack([int32(0, 1, 0), int32(0, 1, 0)])).mean().backward()

    changed = (arena.local_rows() != before).any(1).nonzero().flatten().tolist()
    seen = [1, 2, 3, 4, 7, 8, 9, 13, 14, 15]
    if objective == "esmm":
        assert changed == seen
    else:
        # The CVR tower's copy: the clicked impression's rows and its context's.
        assert changed == seen + [SPEC.num_rows + row for row in (1, 2, 8, 14, 15)]
    assert all(parameter.grad is not None for parameter in esmm.parameters())
    assert not any(name.startswith("arena") for name, _ in esmm.named_parameters())


def test_towers_share_no_parameter() -> None:
    esmm = build_esmm(train_config.Model(dim=DIM, hidden_units=[5]))
    logits = esmm(torch.randn(2, 2, DIM), torch.randn(3, 2, DIM), BATCH.group_sizes)
    logits[0].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in esmm.towers[1].parameters())
    assert all(p.grad is not None for p in esmm.towers[0].parameters())


def test_network_options_reach_both_towers() -> None:
    settings = train_config.Model(
        network="dcn", network_options={"cross_layers": 3}, dim=DIM, hidden_units=[5], activation="relu"
    )
    esmm = build_esmm(settings)
    assert [len(tower.crosses) for tower in esmm.towers] == [2, 2]  # type: ignore[arg-type]
    assert not any(isinstance(layer, nn.PReLU) for layer in esmm.modules())


class _Wrong(nn.Module):
    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        return impression.sum((1, 2))[:, None]


def test_logits_of_a_wrong_shape_name_the_network() -> None:
    esmm = Esmm([_Wrong(), _Wrong()], ESMM)
    with pytest.raises(ConfigError, match=r"network _Wrong gave logits of shape \(3, 1\) for 3 impressions"):
        esmm(torch.zeros(2, 2, DIM), torch.zeros(3, 2, DIM), BATCH.group_sizes)


class _AllHeads(nn.Module):
    """Gives head h the sum of all features, times h + 1."""

    def __init__(self, *sizes: int, num_heads: int, rows: int = 0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.arange(1.0, num_heads + rows + 1))

    def forward(self, context: Tensor, impression: Tensor, group_index: Tensor) -> Tensor:
        return self.scale[:, None] * (context.sum((1, 2))[group_index] + impression.sum((1, 2)))


OWN_SETTINGS = {"network": "tests.model.test_esmm:_AllHeads", "dim": DIM}


def test_a_network_of_all_heads_is_built_once_and_gives_each_a_row() -> None:
    esmm = build_esmm(train_config.Model.model_validate(OWN_SETTINGS))
    context, impression = torch.randn(2, 2, DIM), torch.randn(3, 2, DIM)
    logits = esmm(context, impression, BATCH.group_sizes)
    own = impression.sum((1, 2)) + context.sum((1, 2))[[0, 0, 1]]
    torch.testing.assert_close(logits, torch.stack((own, 2 * own)))
    assert [name for name, _ in esmm.named_parameters()] == ["towers.0.scale"]
    # Nothing reaches the network, and there are still as many rows.
    assert esmm(context[:0], impression[:0], BATCH.group_sizes[:0]).shape == (2, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"network_options": {"rows": 1}},
            r"_AllHeads gave logits of shape \(3, 3\) for 3 impressions and 2 heads: it must give a tensor "
            r"\[2, 3\]",
        ),
        (
            {"network_options": {"num_heads": 8}},
            r"network_options has num_heads = 8, but these are the 2 heads",
        ),
        ({"embedding": "separate"}, r"gives all heads from one embedding, but model.embedding is separate"),
        (
            {"objective": "base"},
            r"separate, by itself or by model.objective base: set model.embedding: shared",
        ),
    ],
)
def test_what_a_network_of_all_heads_can_not_serve_is_told_in_one_line(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_esmm(train_config.Model.model_validate({**OWN_SETTINGS, **settings}))(
            torch.zeros(2, 2, DIM), torch.zeros(3, 2, DIM), BATCH.group_sizes
        )
    assert "\n" not in str(caught.value)


def test_predictions_are_probabilities_also_where_they_are_tiny() -> None:
    ctr = torch.tensor([0.0, -40.0, 40.0, -80.0, 3.0])
    cvr = torch.tensor([0.0, -40.0, 40.0, 1.0, -2.0])
    pctr, pcvr, pctcvr = predict(torch.stack([ctr, cvr]), ESMM)
    exact = torch.sigmoid(ctr.double()) * torch.sigmoid(cvr.double())
    torch.testing.assert_close(pctcvr.double(), exact, rtol=1e-5, atol=1e-38)
    torch.testing.assert_close(pctr, torch.sigmoid(ctr))
    torch.testing.assert_close(pcvr, torch.sigmoid(cvr))
    assert predict(torch.stack([ctr, cvr]).bfloat16(), ESMM).dtype == torch.float32


def test_bfloat16_towers_stay_close_to_float32() -> None:
    torch.manual_seed(4)
    esmm = build_esmm(train_config.Model(dim=DIM, hidden_units=[8, 4]))
    inputs = torch.randn(2, 2, DIM), torch.randn(3, 2, DIM), BATCH.group_sizes
    exact = esmm(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = esmm(*inputs)
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)
