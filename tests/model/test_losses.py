"""Hand values, gradcheck, extreme logits, and the product form in float64 and in exact-enough decimals."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from torch import Tensor

from esmm_spark.model.losses import (
    BaseLoss,
    EsmmLoss,
    base_loss,
    esmm_loss,
    log_one_minus_pctcvr,
    log_pctcvr,
)

LABELS = [(0, 0), (1, 0), (1, 1)]


def logits(*values: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def labels(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int8)


def product_form(a: Tensor, b: Tensor, click: Tensor, conversion: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both sums as the paper writes them, in probabilities; a, b float64."""
    pctr, pctcvr = torch.sigmoid(a), torch.sigmoid(a) * torch.sigmoid(b)

    def bce(label: Tensor, p: Tensor) -> Tensor:
        return -(label * p.log() + (1 - label) * (1 - p).log()).sum()

    return bce(click.double(), pctr), bce((click * conversion).double(), pctcvr)


@pytest.mark.parametrize(
    ("click", "conversion", "ctr", "ctcvr"),
    [
        (0, 0, 0.6931471805599453, 0.2876820724517809),  # log 2, log 4/3
        (1, 0, 0.6931471805599453, 0.2876820724517809),
        (1, 1, 0.6931471805599453, 1.3862943611198906),  # log 2, log 4
    ],
)
def test_logits_of_zero_have_the_hand_computed_loss(
    click: int, conversion: int, ctr: float, ctcvr: float
) -> None:
    loss = esmm_loss(logits(0.0), logits(0.0), labels(click), labels(conversion))
    assert isinstance(loss, EsmmLoss)
    assert loss.ctr.item() == pytest.approx(ctr, rel=1e-6)
    assert loss.ctcvr.item() == pytest.approx(ctcvr, rel=1e-6)
    assert loss.total.item() == pytest.approx(ctr + ctcvr, rel=1e-6)


def test_the_gradient_at_zero_is_the_hand_computed_one() -> None:
    # Clicked, not converted: d ctr/da = 1/2 - 1; d ctcvr/da = p (1 - 1/2) / (1 - p) = (1/8) / (3/4) = 1/6.
    a, b = logits(0.0), logits(0.0)
    esmm_loss(a, b, labels(1), labels(0)).total.backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.item() == pytest.approx(-0.5 + 1 / 6, rel=1e-6)
    assert b.grad.item() == pytest.approx(1 / 6, rel=1e-6)


def test_a_sum_over_impressions_is_not_a_mean() -> None:
    once = esmm_loss(logits(0.3), logits(-1.0), labels(1), labels(0)).total
    thrice = esmm_loss(logits(*[0.3] * 3), logits(*[-1.0] * 3), labels(1, 1, 1), labels(0, 0, 0)).total
    assert thrice.item() == pytest.approx(3 * once.item(), rel=1e-6)


def test_no_impressions_have_loss_zero_and_a_gradient() -> None:
    a, b = logits(), logits()
    loss = esmm_loss(a, b, labels(), labels()).total
    loss.backward()
    assert loss.item() == 0.0
    assert a.grad is not None
    assert a.grad.shape == (0,)


@pytest.mark.parametrize("loss", [esmm_loss, base_loss])
def test_the_gradient_is_that_of_finite_differences(loss: object) -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (
        (4 * torch.randn(12, generator=generator, dtype=torch.float64)).requires_grad_() for _ in range(2)
    )
    click, conversion = labels(*[0, 1, 1] * 4), labels(*[0, 0, 1] * 4)
    assert torch.autograd.gradcheck(lambda x, y: loss(x, y, click, conversion).total, (a, b))  # type: ignore[operator]


def test_value_and_gradient_equal_the_product_form_in_float64() -> None:
    grid = torch.linspace(-12, 12, 41, dtype=torch.float64)
    a, b = (t.flatten() for t in torch.meshgrid(grid, grid, indexing="ij"))
    for click, conversion in LABELS:
        clicks, conversions = torch.full_like(a, click), torch.full_like(a, conversion)
        ours = [t.clone().requires_grad_() for t in (a, b)]
        theirs = [t.clone().requires_grad_() for t in (a, b)]
        found = esmm_loss(ours[0], ours[1], clicks, conversions)
        expected = product_form(theirs[0], theirs[1], clicks, conversions)
        torch.testing.assert_close(found.ctr, expected[0], rtol=1e-9, atol=0)
        torch.testing.assert_close(found.ctcvr, expected[1], rtol=1e-9, atol=0)
        found.total.backward()
        sum(expected).backward()  # type: ignore[union-attr]
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=1e-9)


def exact(a: float, b: float, label: int) -> tuple[float, float, float]:
    """Returns the CTCVR loss and its derivatives by a and b, with 120 digits."""
    with localcontext() as context:
        context.prec = 120
        x, y = Decimal(a), Decimal(b)
        s, t = 1 / (1 + (-x).exp()), 1 / (1 + (-y).exp())
        p = s * t
        if label:
            return float(-p.ln()), float(s - 1), float(t - 1)
        return float(-(1 - p).ln()), float(p * (1 - s) / (1 - p)), float(p * (1 - t) / (1 - p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("a", [-80.0, -20.0, -5.5, 0.0, 0.8, 3.0, 20.0, 80.0])
@pytest.mark.parametrize("b", [-80.0, -20.0, -7.0, 0.0, 0.9, 20.0, 80.0])
def test_extreme_logits_have_the_right_loss_and_gradient(
    a: float, b: float, label: int, dtype: torch.dtype
) -> None:
    first, second = logits(a, dtype=dtype), logits(b, dtype=dtype)
    ctcvr = esmm_loss(first, second, labels(label), labels(label)).ctcvr
    ctcvr.backward()

    loss, by_a, by_b = exact(first.item(), second.item(), label)
    tolerance = 3e-6 if dtype == torch.float32 else 1e-13
    # 1e-38: what float32 still holds in full; below it a loss or a gradient is 0 for every purpose.
    assert ctcvr.item() == pytest.approx(loss, rel=tolerance, abs=1e-38)
    for tensor, expected in ((first, by_a), (second, by_b)):
        assert tensor.grad is not None
        # exp of a difference of numbers near 80 keeps 80 units in the last place
        assert tensor.grad.item() == pytest.approx(expected, rel=50 * tolerance, abs=1e-38)


def test_float32_probabilities_would_have_lost_these_gradients() -> None:
    a, b = logits(20.0), logits(20.0)
    (1 - torch.sigmoid(a) * torch.sigmoid(b)).clamp_min(1e-7).log().neg().sum().backward()
    ours = logits(20.0), logits(20.0)
    esmm_loss(*ours, labels(0), labels(0)).ctcvr.backward()
    assert a.grad is not None
    assert ours[0].grad is not None
    assert a.grad.item() == 0.0
    assert ours[0].grad.item() == pytest.approx(0.5, rel=1e-4)


def test_log_pctcvr_and_its_complement_sum_to_one() -> None:
    grid = torch.linspace(-30, 30, 61, dtype=torch.float64)
    a, b = (t.flatten() for t in torch.meshgrid(grid, grid, indexing="ij"))
    total = log_pctcvr(a, b).exp() + log_one_minus_pctcvr(a, b).exp()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_raised_to_float32(dtype: torch.dtype) -> None:
    a, b = logits(0.5, dtype=dtype), logits(-1.5, dtype=dtype)
    loss = esmm_loss(a, b, labels(1), labels(0)).total
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        esmm_loss(logits(0.5), logits(-1.5), labels(1), labels(0)).total.item()
    )


def test_base_learns_cvr_from_clicked_impressions_alone() -> None:
    a, b = logits(0.0, 0.0, 0.0), logits(0.0, 1.0, 2.0)
    loss = base_loss(a, b, labels(0, 1, 1), labels(0, 0, 1))
    assert isinstance(loss, BaseLoss)
    loss.total.backward()
    # softplus(1) + softplus(-2); the first impression was not clicked
    assert loss.cvr.item() == pytest.approx(1.3132616875 + 0.1269280110, rel=1e-6)
    assert loss.ctr.item() == pytest.approx(3 * 0.6931471805599453, rel=1e-6)
    assert b.grad is not None
    assert b.grad.tolist() == pytest.approx([0.0, 0.7310585786, -0.1192029220], rel=1e-6)
    assert a.grad is not None
    assert a.grad.tolist() == pytest.approx([0.5, -0.5, -0.5])


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match=r"all be \[N\], they are \[\(2,\), \(1,\), \(2,\), \(2,\)\]"):
        esmm_loss(logits(0.0, 1.0), logits(0.0), labels(0, 0), labels(0, 0))
    square = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=r"\(1, 1\)"):
        esmm_loss(square, square, square, square)


@pytest.mark.parametrize(("a", "b"), [(95.0, 91.0), (91.0, 300.0), (1e4, 1e4), (-1e4, 1e4), (-1e4, -300.0)])
@pytest.mark.parametrize("label", [0, 1])
def test_logits_that_are_still_finite_have_a_finite_loss_and_gradient(a: float, b: float, label: int) -> None:
    first, second = logits(a), logits(b)
    loss = esmm_loss(first, second, labels(1), labels(label))
    loss.total.backward()
    if label:
        expected = max(-a, 0.0) + max(-b, 0.0)
    elif a > 0 and b > 0:
        # 1 - p is e^-a + e^-b but for what float64 doesn't see.
        expected = min(a, b) - math.log1p(math.exp(min(a, b) - max(a, b)))
    else:
        expected = 0.0
    assert loss.ctcvr.item() == pytest.approx(expected, rel=1e-6, abs=1e-30)
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad.isfinite().all()
    assert second.grad.isfinite().all()
    if not label and a > 0 and b > 0:
        of_b = 1 / (1 + math.exp(b - a)) if b - a < 700 else 0.0
        assert second.grad.item() == pytest.approx(of_b, rel=1e-3, abs=1e-30)
