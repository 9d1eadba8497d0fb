"""What is evaluated: series of scores on targets (contracts/schemas/targets.py), and the sorts that takes.

A series is one set of scores for the same impressions: the model's, a baseline's, or the true probabilities
that the simulator drew the labels from (the oracle, whose metrics no model can be expected to beat).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from esmm_spark.contracts.schemas.targets import Target

MODEL, BASELINE, ORACLE = "model", "baseline", "oracle"


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
    def name(self) -> str:
        """A name for messages and keys, e.g. `model_ctr`."""
        return f"{self.series}_{self.target.name}"


@dataclass(frozen=True)
class Scan:
    """One score column of one series, and all targets that it predicts: sorted once for all of them."""

    series: str
    score: str
    targets: tuple[Target, ...]


def scans_of(series: Sequence[str], targets: Sequence[Target]) -> tuple[Scan, ...]:
    """Returns every sort that the targets need, series by series."""
    columns = list(dict.fromkeys(target.score for target in targets))
    return tuple(
        Scan(name, column, tuple(target for target in targets if target.score == column))
        for name in series
        for column in columns
    )
