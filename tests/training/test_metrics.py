"""The metrics of sums over ranks against scikit-learn over all impressions."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from esmm_spark.contracts.losses import Space
from esmm_spark.contracts.objective import Objective, resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks
from esmm_spark.contracts.train_config import Model
from esmm_spark.model.objectives.probabilities import predict
from esmm_spark.training.metrics import MetricSums, auc_of_histogram, metrics_of

CPU = torch.device("cpu")


ESMM = resolve(Model(), [], DEFAULT_TASKS)


def labelled_logits(
    count: int, seed: int, spread: float, offset: float = -3.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [2, N] and labels [2, N] that follow them, clicks about as rare as in a log."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    logits = torch.stack((draw(count) * spread + offset, draw(count) * spread + offset + 1))
    noisy = [logit + 2 * draw(count) for logit in logits]
    click, converts = (torch.rand(count, generator=generator) < torch.sigmoid(logit) for logit in noisy)
    return logits, torch.stack((click, click & converts)).float()


def metrics_over_ranks(
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_ranks: int,
    batch_size: int,
    objective: Objective = ESMM,
) -> Mapping[str, float | None]:
    """Each rank adds its own batches; the sums are added up as an allreduce would."""
    sums = [MetricSums(objective, CPU) for _ in range(num_ranks)]
    for index, start in enumerate(range(0, logits.shape[1], batch_size)):
        part = slice(start, start + batch_size)
        sums[index % num_ranks].add(logits[:, part], labels[:, part])
    histograms, totals = zip(*(rank.tensors() for rank in sums), strict=True)
    return metrics_of(objective.tasks, torch.stack(histograms).sum(0), torch.stack(totals).sum(0))


@pytest.mark.parametrize(("spread", "offset"), [(1.0, -3.0), (0.05, -2.0), (6.0, -1.0)])
def test_metrics_agree_with_sklearn_to_1e_4(spread: float, offset: float) -> None:
    logits, (click, conversion) = labelled_logits(60_000, 3, spread, offset)
    found = metrics_over_ranks(logits, torch.stack((click, conversion)), num_ranks=3, batch_size=1000)
    (pctr, pcvr, pctcvr), clicked = predict(logits, ESMM), click > 0
    expected = {
        "ctr": (click, pctr),
        "cvr": (conversion[clicked], pcvr[clicked]),
        "ctcvr": (conversion, pctcvr),
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
    empty = metrics_of(DEFAULT_TASKS, *MetricSums(ESMM, CPU).tensors())
    assert set(empty.values()) == {None}
    logits, (click, _) = labelled_logits(100, 2, 1.0)
    labels = torch.stack((click, torch.zeros(100)))
    found = metrics_over_ranks(logits, labels, num_ranks=1, batch_size=50)
    assert found["ctr_auc"] is not None
    assert found["ctcvr_auc"] is None
    assert found["ctcvr_calibration"] is None
    assert found["ctcvr_log_loss"] is not None


def test_extreme_logits_stay_finite_and_ordered() -> None:
    logits = torch.tensor([[-80.0, -20.0, 20.0, 80.0]] * 2)
    labels = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2)
    found = metrics_over_ranks(logits, labels, num_ranks=1, batch_size=4)
    assert found["ctcvr_auc"] == 1.0
    assert found["ctcvr_log_loss"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("head_space", ["given", "entire"])
def test_a_funnel_has_metrics_of_each_task_where_its_label_is_known(head_space: Space) -> None:
    tasks = Tasks.model_validate(
        {"click": {}, "conversion": {"given": "click"}, "buy": {"given": "conversion"}}
    )
    objective = resolve(Model(head_space=head_space), [], tasks)
    logits, labels = labelled_logits(20_000, 4, 1.5, offset=0.0)
    generator = torch.Generator().manual_seed(5)
    buys = labels[1] * (torch.rand(20_000, generator=generator) < torch.sigmoid(logits[0] - logits[1]))
    labels = torch.cat((labels, buys.float()[None]))
    logits = torch.cat((logits, logits[:1] - logits[1:] - (0 if head_space == "given" else 2)))
    # Where the parent's label is 1 a tenth of them is unknown.
    parents = torch.cat((torch.ones(1, 20_000), labels[:-1]))
    seen = torch.where((torch.rand(labels.shape, generator=generator) < 0.1) & (parents == 1), -1.0, labels)
    found = metrics_over_ranks(logits, seen, num_ranks=2, batch_size=1000, objective=objective)
    assert list(tasks.series) == ["ctr", "cvr", "ctcvr", "buy", "entire_buy"]
    probabilities = dict(zip(tasks.all_score_columns, predict(logits, objective).double(), strict=True))
    known = {name: seen[k] >= 0 for k, name in enumerate(tasks.names)}
    expected = {
        "cvr": (1, probabilities["pcvr"], known["conversion"] & (seen[0] == 1)),
        "buy": (2, probabilities["p_buy"], known["buy"] & (seen[1] == 1)),
        "entire_buy": (2, probabilities["p_entire_buy"], known["buy"]),
    }
    for name, (k, p, judged) in expected.items():
        assert 50 < int(judged.sum()) < 20_000
        label, score = labels[k][judged], p[judged].numpy()
        assert found[f"{name}_auc"] == pytest.approx(roc_auc_score(label, score), abs=1e-4), name
        assert found[f"{name}_calibration"] == pytest.approx(score.sum() / float(label.sum()), rel=1e-5), name


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
