"""A loss of one's own: what it is given, what it trains, and what is told where it is wrong."""

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.embedding.embedded import EmbeddedBatch
from esmm_spark.model.esmm import Esmm, build_esmm

SPEC = FeatureSpec.model_validate(
    {
        "tables": {"user": {"num_buckets": 20}, "item": {"num_buckets": 11}},
        "fields": [{"name": "user", "level": "context"}, {"name": "item", "level": "impression"}],
    }
)
DIM = 4


def as_esmm(logits: Tensor, labels: Tensor, carried: Mapping[str, Tensor]) -> Tensor:
    """ESMM's two terms, in probabilities."""
    click, conversion = labels
    pctr, pcvr = torch.sigmoid(logits)
    return torch.stack(
        [
            F.binary_cross_entropy(pctr, click, reduction="none"),
            F.binary_cross_entropy(pctr * pcvr, click * conversion, reduction="none"),
        ]
    )


def of_three_heads(logits: Tensor, labels: Tensor, carried: Mapping[str, Tensor]) -> Tensor:
    assert logits.shape[0] == 3
    return logits.square().sum(0)


def summed(logits: Tensor, labels: Tensor, carried: Mapping[str, Tensor]) -> Tensor:
    return logits.sum()


def no_tensor(logits: Tensor, labels: Tensor, carried: Mapping[str, Tensor]) -> float:
    return 1.0


NO_FUNCTION = 3


def model_of(objective: str, extra_heads: int = 0) -> Esmm:
    settings = Model(objective=objective, dim=DIM, hidden_units=[5], extra_heads=extra_heads)
    torch.manual_seed(3)
    return build_esmm(settings, SPEC, resolve(settings, [], DEFAULT_TASKS))


def loss_and_gradients(esmm: Esmm) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(2, 1, DIM, generator=generator)
    impression = torch.randn(3, 1, DIM, generator=generator)
    labels = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    loss = esmm.training_loss(EmbeddedBatch(context, impression, torch.tensor([2, 1])), labels, 0.25)
    return [loss.detach(), *torch.autograd.grad(loss, list(esmm.parameters()))]


def own(function: str) -> str:
    return f"{__name__}:{function}"


def test_a_function_of_terms_trains_as_the_preset_of_the_same_terms() -> None:
    for mine, theirs in zip(
        loss_and_gradients(model_of(own("as_esmm"))), loss_and_gradients(model_of("esmm")), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_function_has_as_many_heads_as_it_asks_for() -> None:
    esmm = model_of(own("of_three_heads"), extra_heads=1)
    assert esmm.objective.heads == ("click", "conversion", "extra:0")
    assert len(esmm.towers) == 3
    assert all(gradient.any() for gradient in loss_and_gradients(esmm)[-2:])


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("no_such_package:loss", "model.objective = 'no_such_package:loss': can't import no_such_package"),
        (own("missing"), f"{__name__} has no missing: allowed are esmm, base"),
        (own("NO_FUNCTION"), "is 3, not a function: allowed are esmm, base"),
    ],
)
def test_what_is_no_function_is_told_in_one_line(objective: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        model_of(objective)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "found"), [("summed", r"a tensor of shape \(\)"), ("no_tensor", "a float")]
)
def test_what_gives_no_terms_per_impression_is_told(function: str, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"gave {found} for 3 impressions: it must give a tensor \[3\] or"):
        loss_and_gradients(model_of(own(function)))
