"""The metrics of sums over ranks against scikit-learn over all impressions."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from esmm_spark.model.esmm import Logits, predict
from esmm_spark.training.metrics import MetricSums, auc_of_histogram, metrics_of

CPU = torch.device("cpu")


def labelled_logits(
    count: int, seed: int, spread: float, offset: float = -3.0
) -> tuple[Logits, torch.Tensor, torch.Tensor]:
    """Logits and labels that follow them, clicks about as rare as in a log."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    logits = Logits(draw(count) * spread + offset, draw(count) * spread + offset + 1)
    noisy = [logit + 2 * draw(count) for logit in logits]
    click, converts = (torch.rand(count, generator=generator) < torch.sigmoid(logit) for logit in noisy)
    return logits, click.float(), (click & converts).float()


def metrics_over_ranks(
    logits: Logits, click: torch.Tensor, conversion: torch.Tensor, num_ranks: int, batch_size: int
) -> Mapping[str, float | None]:
    """Each rank adds its own batches; the sums are added up as an allreduce would."""
    sums = [MetricSums(CPU) for _ in range(num_ranks)]
    for index, start in enumerate(range(0, len(click), batch_size)):
        part = slice(start, start + batch_size)
        sums[index % num_ranks].add(Logits(logits.ctr[part], logits.cvr[part]), click[part], conversion[part])
    histograms, totals = zip(*(rank.tensors() for rank in sums), strict=True)
    return metrics_of(torch.stack(histograms).sum(0), torch.stack(totals).sum(0))


@pytest.mark.parametrize(("spread", "offset"), [(1.0, -3.0), (0.05, -2.0), (6.0, -1.0)])
def test_metrics_agree_with_sklearn_to_1e_4(spread: float, offset: float) -> None:
    logits, click, conversion = labelled_logits(60_000, 3, spread, offset)
    found = metrics_over_ranks(logits, click, conversion, num_ranks=3, batch_size=1000)
    scores, clicked = predict(logits), click > 0
    expected = {
        "ctr": (click, scores.pctr),
        "cvr": (conversion[clicked], scores.pcvr[clicked]),
        "ctcvr": (conversion, scores.pctcvr),
    }
    for task, (label, score) in expected.items():
        p = score.double().numpy()
        assert found[f"{task}_auc"] == pytest.approx(roc_auc_score(label, p), abs=1e-4), task
        assert found[f"{task}_log_loss"] == pytest.approx(log_loss(label, p), rel=1e-4), task
        assert found[f"{task}_calibration"] == pytest.approx(p.sum() / float(label.sum()), rel=1e-5), task


def test_metrics_do_not_depend_on_ranks_and_batches() -> None:
    data = labelled_logits(5000, 1, 1.0)
    one = metrics_over_ranks(*data, num_ranks=1, batch_size=5000)
    for num_ranks, batch_size in [(2, 300), (7, 190)]:
        assert metrics_over_ranks(*data, num_ranks, batch_size) == pytest.approx(one, rel=1e-6)


def test_metrics_without_an_impression_or_of_one_class_are_none_not_nan() -> None:
    empty = metrics_of(*MetricSums(CPU).tensors())
    assert set(empty.values()) == {None}
    logits, click, _ = labelled_logits(100, 2, 1.0)
    found = metrics_over_ranks(logits, click, torch.zeros(100), num_ranks=1, batch_size=50)
    assert found["ctr_auc"] is not None
    assert found["ctcvr_auc"] is None
    assert found["ctcvr_calibration"] is None
    assert found["ctcvr_log_loss"] is not None


def test_extreme_logits_stay_finite_and_ordered() -> None:
    logits = Logits(torch.tensor([-80.0, -20.0, 20.0, 80.0]), torch.tensor([-80.0, -20.0, 20.0, 80.0]))
    click = torch.tensor([0.0, 0.0, 1.0, 1.0])
    found = metrics_over_ranks(logits, click, click, num_ranks=1, batch_size=4)
    assert found["ctcvr_auc"] == 1.0
    assert found["ctcvr_log_loss"] == pytest.approx(0.0, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_auc_of_a_histogram_equals_counting_all_pairs(bins: list[tuple[int, int]]) -> None:
    histogram = torch.tensor(bins).T
    pairs = right = 0.0
    for low, (negatives, _) in enumerate(bins):
        for high, (_, positives) in enumerate(bins):
            pairs += negatives * positives
            right += negatives * positives * (1.0 if high > low else 0.5 if high == low else 0.0)
    found = auc_of_histogram(histogram)
    assert found == (None if pairs == 0 else pytest.approx(right / pairs))


def test_the_worked_example() -> None:
    assert auc_of_histogram(torch.tensor([[2, 0], [1, 1]])) == 0.75
    assert np.isclose(roc_auc_score([0, 0, 1, 1], [0.1, 0.1, 0.1, 0.9]), 0.75)
