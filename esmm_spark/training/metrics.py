"""Metrics over impressions that lie on several ranks, from sums that can be added up.

AUC comes from histograms of the score's log-odds, 2^16 bins wide enough apart to agree with the exact AUC to
1e-4: two scores in one bin count as a tie. Never a mean of the batches' AUCs, which is no AUC.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from esmm_spark.contracts.losses import Space
from esmm_spark.contracts.objective import Objective
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.model.objectives.pointwise import known_labels
from esmm_spark.model.objectives.probabilities import log_probabilities
from esmm_spark.model.objectives.spec import spec_of

NUM_BINS = 1 << 16
MAX_LOG_ODDS = 24.0  # a probability of 4e-11; what lies beyond shares the last bin


@dataclass
class SeriesSums:
    """What the metrics of one series follow from: a histogram by label and three sums, all on one device."""

    histogram: Tensor  # [2, NUM_BINS] int64: impressions by label and bin
    log_loss: Tensor  # [] float64: sum of -log likelihood
    predicted: Tensor  # [] float64: sum of probabilities

    @classmethod
    def zeros(cls, device: torch.device) -> "SeriesSums":
        """Returns the sums of no impressions."""
        return cls(
            torch.zeros(2, NUM_BINS, dtype=torch.int64, device=device),
            torch.zeros((), dtype=torch.float64, device=device),
            torch.zeros((), dtype=torch.float64, device=device),
        )

    def add(self, log_p: Tensor, log_not_p: Tensor, label: Tensor) -> None:
        """Adds impressions.

        Args:
            log_p: [N] log of the predicted probability.
            log_not_p: [N] log of its complement.
            label: [N] 0 or 1.
        """
        log_odds = (log_p - log_not_p).double().clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)
        bins = ((log_odds + MAX_LOG_ODDS) * ((NUM_BINS - 1) / (2 * MAX_LOG_ODDS))).round().long()
        flat = torch.bincount(label.long() * NUM_BINS + bins, minlength=2 * NUM_BINS)
        self.histogram += flat.view(2, NUM_BINS)
        self.log_loss -= torch.where(label > 0, log_p, log_not_p).double().sum()
        self.predicted += log_p.double().exp().sum()


def auc_of_histogram(histogram: Tensor) -> float | None:
    """Returns the area under the ROC curve, or None where one class is missing.

    Args:
        histogram: [2, bins] int64, negatives then positives by ascending score.

    Returns:
        P(score of a positive > score of a negative) + P(equal) / 2.

    Worked example: negatives [2, 0], positives [1, 1]: of 4 pairs 2 are right and 2 tie, so 0.75.
    """
    negatives, positives = histogram[0].double(), histogram[1].double()
    pairs = negatives.sum() * positives.sum()
    if pairs == 0:
        return None
    negatives_below = negatives.cumsum(0) - negatives
    return float((positives * (negatives_below + negatives / 2)).sum() / pairs)


class MetricSums:
    """The sums of all series of the tasks.

    A task's conditional probability is judged on the impressions whose parent's label is 1, its entire-space
    probability on all; both where its label is known.

    Args:
        objective: says what each logit is of.
        device: where the sums are.
    """

    def __init__(self, objective: Objective, device: torch.device) -> None:
        self._objective, self._spec = objective, spec_of(objective)
        self.sums = {name: SeriesSums.zeros(device) for name in objective.tasks.series}

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            logits: [H, N].
            labels: [K, N]: 1, 0, or below 0 where unknown.
        """
        tasks = self._objective.tasks
        known = known_labels(labels, self._spec)
        for name, series in tasks.series.items():
            index = tasks.names.index(series.task)
            is_judged = known[index] >= 0
            if series.is_conditional:
                is_judged &= known[tasks.parents[index]] > 0
            space: Space = "given" if series.is_conditional else "entire"
            log_p, log_not_p = log_probabilities(logits, self._objective, series.task, space)
            self.sums[name].add(log_p[is_judged], log_not_p[is_judged], known[index][is_judged])

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Returns what has to be summed over ranks: [series, 2, bins] int64 and [series, 2] float64."""
        histograms = torch.stack([sums.histogram for sums in self.sums.values()])
        totals = [torch.stack([sums.log_loss, sums.predicted]) for sums in self.sums.values()]
        return histograms, torch.stack(totals)


def metrics_of(tasks: Tasks, histograms: Tensor, sums: Tensor) -> dict[str, float | None]:
    """Returns the metrics by name from the sums over all ranks, shaped as `MetricSums.tensors` gives them.

    `<series>_auc`, `<series>_log_loss` (nats per impression) and `<series>_calibration` (sum of predictions /
    sum of labels) of each series of `tasks`; None where they are not defined, such as an AUC without a
    positive.
    """
    result: dict[str, float | None] = {}
    for index, name in enumerate(tasks.series):
        count, positives = int(histograms[index].sum()), int(histograms[index, 1].sum())
        log_loss, predicted = sums[index].tolist()
        result[f"{name}_auc"] = auc_of_histogram(histograms[index])
        result[f"{name}_log_loss"] = log_loss / count if count else None
        result[f"{name}_calibration"] = predicted / positives if positives else None
    return result
