"""The compiled loss and its torch twin: against each other, the probability form's autograd, and decimals."""

import functools
import itertools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from esmm_spark.contracts.losses import PRESETS, Space, Term
from esmm_spark.contracts.objective import Objective, resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.objectives.pointwise import log_complement, log_probability, pointwise_loss
from esmm_spark.model.objectives.pointwise_kernels import loss_of_chunk, loss_scratch_rows
from esmm_spark.model.objectives.spec import LossSpec, spec_of
from esmm_spark.model.objectives.weight_means import divide_by, moved_means, weight_sums
from tests.model.objectives.oracle import probability_form

FUNNEL = Tasks.model_validate(
    {"click": {}, "conversion": {"given": "click"}, "repurchase": {"given": "conversion"}}
)
TREE = Tasks.model_validate(
    {
        "click": {},
        "like": {},
        "cart": {"given": "click"},
        "buy": {"given": "cart"},
        "share": {"given": "like"},
    }
)
LISTED: list[dict[str, Any]] = [
    {"task": "click", "sample_weight": "price", "negatives": 0.7},
    {"task": "conversion", "weight": 2.1, "positives": 3.3, "sample_weight": "price"},
    {"task": "conversion", "space": "given", "missing": 0.3, "propensity": {"column": "seen", "clip": 0.2}},
]
SIBLINGS = Tasks.model_validate({"click": {}, "cart": {"given": "click"}, "save": {"given": "click"}})
ROOTS = Tasks.model_validate({"click": {}, "conversion": {}})
ENTIRE: list[dict[str, Any]] = [{"task": "click"}, {"task": "conversion"}]
AITM = [*ENTIRE, {"task": "conversion", "not_above": "click", "weight": 0.6}]
# logits, labels, carried -> losses, gradients
Function = Callable[[Objective, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def compiled(objective: Objective, logits: Tensor, labels: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    """Returns losses [N] and gradients [H, N]; the kernel is given one impression at a time."""
    return compiled_by(spec_of(objective), logits, labels, carried)


def compiled_by(spec: LossSpec, logits: Tensor, labels: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    scratch = np.empty((loss_scratch_rows(len(logits), len(labels)), 8))
    spec.weight_sums[:] = 0
    losses, gradients = torch.empty(logits.shape[1], dtype=torch.float64), torch.empty_like(logits)
    for i in range(logits.shape[1]):
        x, label, columns, out = (a[:, i : i + 1].numpy() for a in (logits, labels, carried, gradients))
        losses[i] = loss_of_chunk(spec, x, label, columns, 1.0, scratch, out, spec.weight_sums)
    return losses, gradients


def in_torch(objective: Objective, logits: Tensor, labels: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    return in_torch_by(spec_of(objective), logits, labels, carried)


def in_torch_by(spec: LossSpec, logits: Tensor, labels: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    losses = pointwise_loss(logits, labels, carried, spec)
    (gradients,) = torch.autograd.grad(losses.sum(), logits)
    return losses.detach(), gradients


both = pytest.mark.parametrize("function", [compiled, in_torch])


def preset(name: str, tasks: Tasks = DEFAULT_TASKS) -> Objective:
    return resolve(Model(objective=name), [], tasks)


def listed(
    terms: list[dict[str, Any]], tasks: Tasks = DEFAULT_TASKS, head_space: Space | None = None
) -> Objective:
    model = Model(objective="terms", head_space=head_space)
    return resolve(model, [Term.model_validate(term) for term in terms], tasks)


OBJECTIVES = {
    **{name: preset(name) for name in PRESETS},
    **{f"{name} of a funnel": preset(name, FUNNEL) for name in PRESETS},
    "escm2_dr of a tree": preset("escm2_dr", TREE),
    "dcmt of a tree": preset("dcmt", TREE),
    "terms": listed(LISTED),
    "aitm": listed(AITM, ROOTS),
    "not above in a tree": listed(
        [
            *({"task": task} for task in ("buy", "share")),
            {"task": "share", "not_above": "cart", "weight": 2.0, "sample_weight": "price"},
            {"task": "buy", "not_above": "like"},
        ],
        TREE,
    ),
    "not above, of entire heads": listed(
        [*ENTIRE, {"task": "conversion", "not_above": "click"}], head_space="entire"
    ),
    "not above a sibling": listed(
        [{"task": "cart"}, {"task": "save"}, {"task": "save", "not_above": "cart"}], SIBLINGS
    ),
}


def possible_labels(tasks: Tasks) -> list[tuple[int, ...]]:
    """Returns all labels [K], unknown ones, too, in which 1 has its parent's 1."""
    found = []
    for labels in itertools.product((-1, 0, 1), repeat=len(tasks.names)):
        pairs = [
            (labels[parent], own) for parent, own in zip(tasks.parents, labels, strict=True) if parent >= 0
        ]
        if all(own != 1 or parent == 1 for parent, own in pairs):
            found.append(labels)
    return found


def impressions(objective: Objective, spread: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Returns logits [H, N] and carried [C, N] for all labels [K, N], each several times."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(possible_labels(objective.tasks) * 3, dtype=torch.float64).T.contiguous()
    count = labels.shape[1]
    logits = spread * torch.randn(len(objective.heads), count, generator=generator, dtype=torch.float64)
    return logits, labels, torch.rand(len(objective.columns), count, generator=generator, dtype=torch.float64)


@both
@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_and_gradients_are_those_of_the_probability_form(name: str, function: Function) -> None:
    objective = OBJECTIVES[name]
    logits, labels, carried = impressions(objective, spread=2.5)
    losses, gradients = function(objective, logits, labels, carried)

    logits.requires_grad_()
    columns = dict(zip(objective.columns, carried, strict=True))
    expected = probability_form(objective, logits, labels, columns)
    (of_logits,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients, of_logits, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_compiled_loss_is_that_of_torch_at_any_logits(name: str, spread: float) -> None:
    objective = OBJECTIVES[name]
    given = impressions(objective, spread, seed=1)
    for mine, theirs in zip(compiled(objective, *given), in_torch(objective, *given), strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["esmm", "base", "esmm of a funnel", "division", "aman", "aitm"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    # The others have a propensity without a gradient, which finite differences see.
    objective = OBJECTIVES[name]
    logits, labels, carried = (x[:, :12] for x in impressions(objective, spread=3.0, seed=2))

    def loss(x: Tensor) -> Tensor:
        return pointwise_loss(x, labels, carried, spec_of(objective))

    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


@functools.cache
def exact(logits: tuple[float, ...], label: int) -> tuple[float, list[float]]:
    """Returns the cross entropy of the product of sigmoids and its derivatives, with 450 digits."""
    with localcontext() as context:
        context.prec = 450
        each = [1 / (1 + (-Decimal(x)).exp()) for x in logits]
        p = math.prod(each, start=Decimal(1))
        if label:
            return float(-p.ln()), [float(s - 1) for s in each]
        return float(-(1 - p).ln()), [float(p * (1 - s) / (1 - p)) for s in each]


@both
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("num_tasks", [2, 3])
def test_extreme_logits_have_the_right_loss_and_gradient(
    num_tasks: int, label: int, function: Function
) -> None:
    tasks = DEFAULT_TASKS if num_tasks == 2 else FUNNEL
    last = tasks.names[-1]
    objective = listed([{"task": last, "space": "entire"}], tasks)
    values = [-80.0, -20.0, -3.0, 0.0, 0.8, 20.0, 39.0, 41.0, 80.0, 900.0][:: num_tasks - 1]
    grid = [*itertools.product(values, repeat=num_tasks), (900.0,) * num_tasks]
    logits = torch.tensor(grid, dtype=torch.float64).T.contiguous()
    labels = torch.full((num_tasks, len(grid)), float(label), dtype=torch.float64)
    losses, gradients = function(objective, logits, labels, torch.zeros(0, len(grid), dtype=torch.float64))
    for i, own in enumerate(grid):
        loss, slopes = exact(own, label)
        assert losses[i].item() == pytest.approx(loss, rel=1e-12, abs=1e-300), own
        assert gradients[:, i].tolist() == pytest.approx(slopes, rel=1e-11, abs=1e-300), own


@both
def test_hand_values_of_esmm(function: Function) -> None:
    # Both logits 0: pCTR = 1/2, pCTCVR = 1/4. A click without a conversion, and a conversion.
    logits, labels = torch.zeros(2, 2).double(), torch.tensor([[1.0, 1.0], [0.0, 1.0]]).double()
    losses, gradients = function(OBJECTIVES["esmm"], logits, labels, torch.zeros(0, 2).double())
    assert losses.tolist() == pytest.approx([math.log(2) - math.log(0.75), math.log(2) + math.log(4)])
    assert gradients.flatten().tolist() == pytest.approx([-0.5 + 1 / 6, -0.5 - 0.5, 1 / 6, -0.5])


@both
def test_hand_values_of_inverse_propensities(function: Function) -> None:
    # pCTR = 1/4, pCVR = 1/2, converted: -log(1/4) - log(1/8) - 0.1 log(1/2) / (1/4), clipped / (1/2).
    a = -math.log(3)
    logits, labels = torch.tensor([[a], [0.0]]).double(), torch.ones(2, 1).double()
    for clip, weight in ((0.1, 4.0), (0.5, 2.0)):
        term = {"task": "conversion", "space": "given", "weight": 0.1, "propensity": {"clip": clip}}
        objective = listed([{"task": "click"}, {"task": "conversion"}, term])
        losses, gradients = function(objective, logits, labels, torch.zeros(0, 1).double())
        assert losses.item() == pytest.approx(math.log(4) + math.log(8) + 0.1 * math.log(2) * weight)
        # The propensity has no gradient: the click's logit has only that of the first two terms.
        assert gradients.flatten().tolist() == pytest.approx([-1.5, -0.5 - 0.1 * 0.5 * weight])


@pytest.mark.parametrize("function", [compiled_by, in_torch_by])
@pytest.mark.parametrize("clip", [0.001, 0.3])
def test_normalized_weights_are_divided_by_their_means(clip: float, function: Any) -> None:
    given = {"task": "conversion", "space": "given"}
    plain, normalized = (
        listed([{"task": "click"}, {**given, "propensity": {"clip": clip, "normalized": own}}])
        for own in (False, True)
    )
    logits, labels, carried = impressions(plain, spread=1.0)
    click_alone, _ = function(
        spec_of(listed([{"task": "click"}, {**given, "weight": 1e-9}])), logits, labels, carried
    )
    without, _ = function(spec_of(plain), logits, labels, carried)
    spec = spec_of(normalized)
    function(spec, logits, labels, carried)
    counted = (labels[0] == 1) & (labels[1] >= 0)
    inverse = 1 / torch.sigmoid(logits[0]).clamp(min=clip)
    assert weight_sums(spec) == pytest.approx([inverse[counted].sum().item(), 0.0])

    divide_by(spec, [4.0, 0.0])
    divided, _ = function(spec, logits, labels, carried)
    torch.testing.assert_close(divided - click_alone, (without - click_alone) / 4, rtol=1e-6, atol=1e-7)


def test_running_means_are_plain_ones_at_first_and_forget_later() -> None:
    means: list[float] = []
    for step, total in enumerate([4.0, 8.0, 0.0], start=1):
        means = moved_means(means, [total], num_impressions=4, num_steps=step)
    assert means == pytest.approx([1.0])
    assert moved_means(means, [404.0], num_impressions=4, num_steps=5000) == pytest.approx([2.0])


@both
def test_hand_values_of_a_constraint(function: Function) -> None:
    # p(conversion) 3/4 above p(click) 1/4 by 1/2; the other way round nothing.
    a = math.log(3)
    logits = torch.tensor([[-a, a], [a, -a]]).double()
    constraint = listed(AITM, ROOTS), listed(ENTIRE, ROOTS)
    labels = torch.zeros(2, 2).double()
    (losses, gradients), (without, plain) = (
        function(objective, logits, labels, torch.zeros(0, 2).double()) for objective in constraint
    )
    assert (losses - without).tolist() == pytest.approx([0.6 * 0.5, 0.0])
    # d p / dx = p (1 - p) = 3/16 of both.
    assert (gradients - plain)[:, 0].tolist() == pytest.approx([-0.6 * 3 / 16, 0.6 * 3 / 16])
    assert (gradients - plain)[:, 1].tolist() == [0.0, 0.0]
    # It reads no label.
    unknown = function(constraint[0], logits, labels - 1, torch.zeros(0, 2).double())
    assert unknown[0].tolist() == pytest.approx([0.6 * 0.5, 0.0])


@both
def test_an_unknown_label_trains_what_it_can(function: Function) -> None:
    # A click whose conversion is unknown; no click, so no conversion either; nothing known.
    labels = torch.tensor([[1.0, 0.0, -1.0], [-1.0, -1.0, -1.0]]).double()
    logits, carried = torch.full((2, 3), 0.3).double(), torch.zeros(0, 3).double()
    losses, gradients = function(OBJECTIVES["esmm"], logits, labels, carried)
    known = function(OBJECTIVES["esmm"], logits, torch.zeros(2, 3).double(), carried)
    click_alone = math.log1p(math.exp(-0.3))
    assert losses.tolist() == pytest.approx([click_alone, known[0][1].item(), 0.0])
    assert gradients[:, 0].tolist() == pytest.approx([-1 / (1 + math.exp(0.3)), 0.0])
    assert gradients[:, 2].tolist() == [0.0, 0.0]


@both
@pytest.mark.parametrize("name", ["esmm", "base", "dcmt", "escm2_dr"])
def test_a_nan_in_any_head_reaches_the_loss(name: str, function: Function) -> None:
    objective = OBJECTIVES[name]
    for head, label in itertools.product(range(len(objective.heads)), (0.0, 1.0)):
        logits = torch.zeros(len(objective.heads), 1).double()
        logits[head] = torch.nan
        labels = torch.full((2, 1), label).double()
        assert function(objective, logits, labels, torch.zeros(0, 1).double())[0].isnan().all()


def test_float32_probabilities_would_have_lost_these_gradients() -> None:
    a, b = (torch.tensor([20.0], requires_grad=True) for _ in range(2))
    (1 - torch.sigmoid(a) * torch.sigmoid(b)).clamp_min(1e-7).log().neg().sum().backward()
    assert a.grad is not None
    assert a.grad.item() == 0.0
    objective = listed([{"task": "conversion"}])
    for function in (compiled, in_torch):
        _, gradients = function(objective, torch.full((2, 1), 20.0), torch.zeros(2, 1), torch.zeros(0, 1))
        assert gradients.flatten().tolist() == pytest.approx([0.5, 0.5], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_logarithms_of_a_product_and_its_complement_keep_their_digits(dtype: torch.dtype) -> None:
    values = [-80.0, 0.9, 21.0, 80.0]
    rel = 3e-6 if dtype == torch.float32 else 1e-13
    for own in itertools.product(values, repeat=3):
        logits = torch.tensor(own, dtype=dtype)[:, None]
        assert log_probability(logits).item() == pytest.approx(-exact(own, 1)[0], rel=rel, abs=1e-38)
        assert log_complement(logits).item() == pytest.approx(-exact(own, 0)[0], rel=rel, abs=1e-38)


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 5)])
def test_labels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \[H, N\] and \[2, N\]"):
        pointwise_loss(torch.zeros(2, 4), torch.zeros(shape), torch.zeros(0, 4), spec_of(OBJECTIVES["esmm"]))
