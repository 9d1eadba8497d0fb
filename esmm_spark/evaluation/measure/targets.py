"""What is evaluated: four targets, the series of scores that are compared on them, and the metrics' names.

    target             score    label                   over
    ctr                pctr     click                   impressions with a known click label
    ctcvr              pctcvr   click * conversion      impressions with a known conversion label
    cvr_clicks         pcvr     conversion              clicked impressions
    cvr_entire_space   pcvr     conversion_if_clicked   all impressions; only the simulator's truth knows
    that label

A series is one set of scores for the same impressions: the model's, a baseline's, or the true probabilities
that the simulator drew the labels from (the oracle, whose metrics no model can be expected to beat).

Source: Ma et al., "Entire Space Multi-Task Model", SIGIR 2018, section 3.3, for evaluating CVR on clicked
impressions and CTCVR on all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MODEL, BASELINE, ORACLE = "model", "baseline", "oracle"

Kind = Literal["auc", "log_loss", "calibration", "gauc"]
KINDS: tuple[Kind, ...] = ("auc", "log_loss", "calibration", "gauc")


@dataclass(frozen=True)
class Target:
    """One label and the score that predicts it.

    Args:
        name: how results are keyed, e.g. `cvr_clicks`.
        title: how people read it.
        score: `pctr`, `pcvr` or `pctcvr`.
        label: SQL expression over the aligned impressions, 0 or 1, null where the impression doesn't count.
        kinds: the metrics that are computed.
    """

    name: str
    title: str
    score: str
    label: str
    kinds: tuple[Kind, ...]
    needs_truth: bool = False

    def metric(self, kind: Kind) -> str:
        """Returns the metric's key in metrics.json, e.g. `cvr_auc_clicks` of target `cvr_clicks`."""
        rate, _, population = self.name.partition("_")
        return f"{rate}_{kind}_{population}" if population else f"{rate}_{kind}"


CTR = Target("ctr", "CTR", "pctr", "click", KINDS)
CTCVR = Target("ctcvr", "CTCVR", "pctcvr", "conversion", KINDS)
CVR_CLICKS = Target(
    "cvr_clicks",
    "CVR on clicks",
    "pcvr",
    "if(click = 1, conversion, null)",
    ("auc", "log_loss", "calibration"),
)
CVR_ENTIRE_SPACE = Target(
    "cvr_entire_space",
    "CVR over the entire space",
    "pcvr",
    "conversion_if_clicked",
    ("auc", "log_loss", "calibration"),
    needs_truth=True,
)
TARGETS = (CTR, CVR_CLICKS, CTCVR, CVR_ENTIRE_SPACE)


@dataclass(frozen=True)
class LabelCounts:
    """Impressions that a target's label is known for, and those of them with label 1."""

    impressions: int
    positives: int


@dataclass(frozen=True)
class Ranking:
    """One series on one target: impressions in the order of that series' score."""

    series: str
    target: Target

    @property
    def score(self) -> str:
        """The column of the aligned impressions that holds the score."""
        return f"{self.series}_{self.target.score}"

    @property
    def name(self) -> str:
        """A name that can be part of a column's."""
        return f"{self.series}_{self.target.name}"


def rankings_of(series: Sequence[str], has_truth: bool) -> list[Ranking]:
    """Returns every ranking that the inputs allow, series by series."""
    return [
        Ranking(name, target) for name in series for target in TARGETS if has_truth or not target.needs_truth
    ]
