"""The losses, in log space: no probability is ever formed, so logits of +-80 still have the right gradient.

Shapes: N impressions. a = ctr_logit, b = cvr_logit, pCTR = sigmoid(a), pCVR = sigmoid(b), and pCTCVR is the
product of both.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class EsmmLoss(NamedTuple):
    """Both terms of ESMM's loss, each a float32 scalar summed over impressions."""

    ctr: Tensor
    ctcvr: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of both: what is minimised once divided by the impressions of the global batch."""
        return self.ctr + self.ctcvr


class BaseLoss(NamedTuple):
    """Both terms of BASE's loss, float32 scalars: `ctr` summed over impressions, `cvr` over clicked ones."""

    ctr: Tensor
    cvr: Tensor

    @property
    def total(self) -> Tensor:
        """The sum of both: what is minimised once divided by the impressions of the global batch."""
        return self.ctr + self.cvr


def esmm_loss(ctr_logit: Tensor, cvr_logit: Tensor, click: Tensor, conversion: Tensor) -> EsmmLoss:
    """Returns the summed CTR and CTCVR cross entropies of ESMM, both over all impressions.

        ctr   = sum_i bce(click_i, pCTR_i)
        ctcvr = sum_i bce(click_i * conversion_i, pCTR_i * pCVR_i)

    Worked example: both logits 0, clicked, not converted: ctr = -log 0.5 = 0.693, ctcvr = -log(1 - 0.25) =
    0.288.

    Args:
        ctr_logit: [N] float; half precisions are raised to float32 first.
        cvr_logit: [N] float.
        click: [N] 0 or 1, any dtype.
        conversion: [N] 0 or 1, any dtype.

    Returns:
        Sums, not means: divide by the impressions of the global batch, over all ranks.

    Raises:
        ValueError: the shapes are not all [N].

    Source: Ma et al., "Entire Space Multi-Task Model", SIGIR 2018, equation 3.
    """
    a, b, clicked, converted = _checked(ctr_logit, cvr_logit, click, conversion)
    return EsmmLoss(*_EsmmSums.apply(a, b, clicked, clicked * converted))  # type: ignore[no-untyped-call]


def base_loss(ctr_logit: Tensor, cvr_logit: Tensor, click: Tensor, conversion: Tensor) -> BaseLoss:
    """Returns the summed losses of BASE: CTR over all impressions, CVR over the clicked ones, no product.

        ctr = sum_i bce(click_i, pCTR_i)
        cvr = sum_{i: click_i = 1} bce(conversion_i, pCVR_i)

    The two towers of a BASE model share nothing, not even embedding rows (`esmm.num_embeddings`), as the
    paper's BASE is a CVR model of its own. So how the two sums are weighed against each other doesn't matter:
    Adam and Adagrad don't see the scale of a loss, and dividing both by the impressions of the global batch
    puts CVR at no disadvantage. It also gives a conversion the weight that it has in ESMM.

    Args:
        ctr_logit: [N] float.
        cvr_logit: [N] float.
        click: [N] 0 or 1, any dtype.
        conversion: [N] 0 or 1, any dtype.

    Raises:
        ValueError: the shapes are not all [N].

    Source: Ma et al., SIGIR 2018, section 3.1 (BASE).
    """
    a, b, clicked, converted = _checked(ctr_logit, cvr_logit, click, conversion)
    return BaseLoss(ctr=_bce_sum(a, clicked), cvr=_bce_sum(b, converted, weight=clicked))


def log_pctcvr(a: Tensor, b: Tensor) -> Tensor:
    """Returns log(sigmoid(a) * sigmoid(b)), elementwise, for the CTR and CVR logits `a` and `b`."""
    return F.logsigmoid(a) + F.logsigmoid(b)


@torch.no_grad()
def log_one_minus_pctcvr(a: Tensor, b: Tensor) -> Tensor:
    """Returns log(1 - sigmoid(a) * sigmoid(b)), elementwise, for the CTR and CVR logits `a` and `b`.

    From 1 - p = (e^-a + e^-b + e^(-a-b)) / ((1 + e^-a)(1 + e^-b)):

        log(1 - p) = log(e^-a + e^-b + e^(-a-b)) + log p

    That form cancels where p is small, which is nearly everywhere in a log with 2 conversions in 10,000
    impressions (at p = 3e-7 float32 keeps no digit of it), so below p = 1/2 the value is log1p(-p). Above,
    both logits are positive, and with the smaller one taken out of the sum no exponential overflows, nor do
    all vanish. It has no gradient: `esmm_loss` has its own.
    """
    log_p = log_pctcvr(a, b)
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    large_p = torch.log1p(torch.exp(low - high) + torch.exp(-high)) - low + log_p
    return torch.where(log_p < -0.6931471805599453, torch.log1p(-log_p.exp()), large_p)


class _EsmmSums(torch.autograd.Function):
    """Both sums of ESMM's loss, with gradients that are closed in log space and keep their digits everywhere.

        d log p / da       =  1 - sigmoid(a) = exp(logsigmoid(-a))
        d log(1 - p) / da  = -p (1 - sigmoid(a)) / (1 - p) = -exp(log p + logsigmoid(-a) - log(1 - p))

    They are made along with the sums: as one operation each, which autograd would keep and undo one by one,
    they took longer than the arithmetic.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, clicked: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
        log_a, not_a, not_b = F.logsigmoid(a), F.logsigmoid(-a), F.logsigmoid(-b)
        log_p, log_rest = log_pctcvr(a, b), log_one_minus_pctcvr(a, b)
        is_click, is_conversion = clicked > 0, both > 0
        log_odds = log_p - log_rest
        of_a = torch.where(is_conversion, -not_a.exp(), (log_odds + not_a).exp())
        of_b = torch.where(is_conversion, -not_b.exp(), (log_odds + not_b).exp())
        ctx.save_for_backward(a.sigmoid() - clicked, of_a, of_b)
        ctr = torch.where(is_click, log_a, not_a).sum()
        ctcvr = torch.where(is_conversion, log_p, log_rest).sum()
        return -ctr, -ctcvr

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_ctr: Tensor, of_ctcvr: Tensor) -> tuple[Tensor, Tensor, None, None]:
        ctr_a, ctcvr_a, ctcvr_b = ctx.saved_tensors
        return of_ctr * ctr_a + of_ctcvr * ctcvr_a, of_ctcvr * ctcvr_b, None, None


def _bce_sum(logit: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, label, weight=weight, reduction="sum")


def _checked(
    ctr_logit: Tensor, cvr_logit: Tensor, click: Tensor, conversion: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns logits in at least float32 and labels in their dtype."""
    shapes = [tuple(t.shape) for t in (ctr_logit, cvr_logit, click, conversion)]
    if any(shape != shapes[0] or len(shape) != 1 for shape in shapes):
        raise ValueError(f"logits and labels must all be [N], they are {shapes}")
    # Autocast would leave bfloat16 logits: three digits are too few for a log loss.
    a, b = (t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for t in (ctr_logit, cvr_logit))
    return a, b, click.to(a.dtype), conversion.to(a.dtype)
