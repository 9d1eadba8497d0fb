"""Metrics over impressions that lie on several ranks, from sums that can be added up.

AUC comes from histograms of the score's log-odds, 2^16 bins wide enough apart to agree with the exact AUC to
1e-4: two scores in one bin count as a tie. Never a mean of the batches' AUCs, which is no AUC.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from esmm_spark.model.esmm import Logits
from esmm_spark.model.losses import log_one_minus_pctcvr, log_pctcvr

NUM_BINS = 1 << 16
MAX_LOG_ODDS = 24.0  # a probability of 4e-11; what lies beyond shares the last bin

TASKS = ("ctr", "cvr", "ctcvr")


@dataclass
class TaskSums:
    """What one task's metrics follow from: a histogram by label and three sums, all on one device."""

    histogram: Tensor  # [2, NUM_BINS] int64: impressions by label and bin
    log_loss: Tensor  # [] float64: sum of -log likelihood
    predicted: Tensor  # [] float64: sum of probabilities

    @classmethod
    def zeros(cls, device: torch.device) -> "TaskSums":
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
    """The sums of the three tasks: CTR and CTCVR over all impressions, CVR over the clicked ones."""

    def __init__(self, device: torch.device) -> None:
        self.tasks = {task: TaskSums.zeros(device) for task in TASKS}

    def add(self, logits: Logits, click: Tensor, conversion: Tensor) -> None:
        """Adds a batch.

        Args:
            logits: [N] each.
            click: [N] 0 or 1.
            conversion: [N] 0 or 1, implies click.
        """
        a, b, clicked = logits.ctr, logits.cvr, click > 0
        self.tasks["ctr"].add(F.logsigmoid(a), F.logsigmoid(-a), click)
        self.tasks["cvr"].add(F.logsigmoid(b[clicked]), F.logsigmoid(-b[clicked]), conversion[clicked])
        self.tasks["ctcvr"].add(log_pctcvr(a, b), log_one_minus_pctcvr(a, b), click * conversion)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Returns what has to be summed over ranks: [tasks, 2, bins] int64 and [tasks, 2] float64."""
        histograms = torch.stack([self.tasks[task].histogram for task in TASKS])
        sums = torch.stack([torch.stack([self.tasks[t].log_loss, self.tasks[t].predicted]) for t in TASKS])
        return histograms, sums


def metrics_of(histograms: Tensor, sums: Tensor) -> dict[str, float | None]:
    """Returns the metrics by name from the sums over all ranks, shaped as `MetricSums.tensors` gives them.

    `<task>_auc`, `<task>_log_loss` (nats per impression) and `<task>_calibration` (sum of predictions / sum
    of labels) of each task; None where they are not defined, such as an AUC without a positive.
    """
    result: dict[str, float | None] = {}
    for index, task in enumerate(TASKS):
        count, positives = int(histograms[index].sum()), int(histograms[index, 1].sum())
        log_loss, predicted = sums[index].tolist()
        result[f"{task}_auc"] = auc_of_histogram(histograms[index])
        result[f"{task}_log_loss"] = log_loss / count if count else None
        result[f"{task}_calibration"] = predicted / positives if positives else None
    return result
