"""The compiled losses against `losses` in float64, and exact values where those have no digits left."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from esmm_spark.model.fused.loss_kernels import BASE, ESMM, loss_and_gradients
from esmm_spark.model.kernels.compilation import kernel
from esmm_spark.model.losses import BaseLoss, EsmmLoss, base_loss, esmm_loss

LOGITS = [-300.0, -80.0, -20.0, -3.0, -1e-3, 0.0, 0.7, 4.0, 20.0, 80.0, 300.0, 900.0]
LABELS = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]


@kernel
def losses(objective: int, given: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    for i in range(given.shape[0]):
        out[i] = loss_and_gradients(objective, given[i, 0], given[i, 1], given[i, 2], given[i, 3])


# torch's binary cross entropy, of which BASE's loss is made, keeps 7 digits at a logit of -20, none at -80.
@pytest.mark.parametrize(
    ("objective", "oracle", "rel", "least"),
    [(ESMM, esmm_loss, 1e-12, 1e-30), (BASE, base_loss, 1e-6, 1e-16)],
)
def test_values_and_gradients_are_those_of_the_losses(
    objective: int, oracle: Callable[..., EsmmLoss | BaseLoss], rel: float, least: float
) -> None:
    given = np.array([(a, b, *labels) for a, b in itertools.product(LOGITS, LOGITS) for labels in LABELS])
    found = np.empty((len(given), 3))
    losses(objective, given, found)
    for row, (value, of_a, of_b) in zip(given, found, strict=True):
        a, b, click, conversion = torch.tensor(row).view(4, 1)
        a.requires_grad_(), b.requires_grad_()
        expected = oracle(a, b, click, conversion).total
        gradients = torch.autograd.grad(expected, (a, b), allow_unused=True)
        assert value == pytest.approx(float(expected.detach()), rel=rel, abs=least), row
        for mine, theirs in zip((of_a, of_b), gradients, strict=True):
            assert mine == pytest.approx(0.0 if theirs is None else float(theirs), rel=1e-9, abs=1e-15), row


def test_gradients_of_sure_and_right_predictions_keep_their_digits() -> None:
    found = np.empty((2, 3))
    sure = np.array([[40.0, 40.0, 1.0, 1.0]])
    losses(ESMM, sure, found[:1])
    losses(BASE, sure, found[1:])
    np.testing.assert_allclose(found[:, 1:], -np.exp(-40.0) * np.array([[2, 1], [1, 1]]), rtol=1e-12)


def test_hand_values() -> None:
    found = np.empty((2, 3))
    # Both logits 0: pCTR = 1/2, pCTCVR = 1/4; a click without a conversion, and a conversion.
    losses(ESMM, np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]]), found)
    np.testing.assert_allclose(found[0], [np.log(2) - np.log(0.75), -0.5 + 1 / 6, 1 / 6], rtol=1e-14)
    np.testing.assert_allclose(found[1], [np.log(2) + np.log(4), -0.5 - 0.5, -0.5], rtol=1e-14)


@pytest.mark.parametrize("objective", [ESMM, BASE])
def test_a_nan_gives_a_nan(objective: int) -> None:
    found = np.empty((3, 3))
    logits = [[np.nan, 0.0, 1.0, 0.0], [0.0, np.nan, 1.0, 1.0], [0.0, np.nan, 0.0, 0.0]]
    losses(objective, np.array(logits), found)
    assert np.isnan(found[:, 0]).all()
