"""Probabilities of a chain of tasks against 150 decimal digits, at logits of up to +-80."""

from decimal import Decimal, localcontext
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch

from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.objectives.probabilities import log_probabilities, predict

CHAIN = Tasks.model_validate(
    {"click": {}, "conversion": {"given": "click"}, "repurchase": {"given": "conversion"}}
)
OBJECTIVE = resolve(Model(), [], CHAIN)
POINTS = [-80.0, -20.0, -2.5, -0.125, 0.0, 1.0, 20.0, 80.0]
# [3, N] every combination; all are float32 numbers.
LOGITS = np.array(list(product(POINTS, repeat=3))).T


def exact(num_heads: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns log p and log(1 - p), [N] each, p the product of the first heads' probabilities."""
    found = []
    with localcontext() as context:
        context.prec = 150
        for logits in LOGITS.T[:, :num_heads]:
            p = Decimal(1)
            for logit in logits:
                p /= 1 + (-Decimal(float(logit))).exp()
            found.append((float(p.ln()), float((1 - p).ln())))
    log_p, log_rest = np.array(found).T
    return log_p, log_rest


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("num_heads", [1, 2, 3])
def test_logarithms_of_a_chain_and_of_its_complement_keep_their_digits(
    num_heads: int, dtype: torch.dtype, tolerance: float
) -> None:
    task = CHAIN.names[num_heads - 1]
    found = log_probabilities(torch.tensor(LOGITS, dtype=dtype), OBJECTIVE, task, "entire")
    for ours, theirs in zip(found, exact(num_heads), strict=True):
        assert ours.isfinite().all()
        np.testing.assert_allclose(ours.double(), theirs, rtol=tolerance, atol=1e-38)


@pytest.mark.slow
def test_entire_space_probabilities_are_the_products_along_the_chain() -> None:
    scores = dict(
        zip(CHAIN.all_score_columns, predict(torch.tensor(LOGITS), OBJECTIVE).double().numpy(), strict=True)
    )
    columns = {"pctr": 1, "pctcvr": 2, "p_entire_repurchase": 3}
    for name, num_heads in columns.items():
        np.testing.assert_allclose(scores[name], np.exp(exact(num_heads)[0]), rtol=5e-5, atol=1e-37)
    for name, logits in zip(("pcvr", "p_repurchase"), LOGITS[1:], strict=True):
        np.testing.assert_allclose(scores[name], 1 / (1 + np.exp(-logits)), rtol=1e-5)
