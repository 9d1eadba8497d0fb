"""The parameters that all tasks of an evaluation share: what is evaluated, and into which parts."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from esmm_spark.contracts.schemas.targets import Target
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.evaluation.measure.targets import ORACLE, Scan

# Kinds of blocks between aligning and summing.
RANK, GROUP, NOTES_ON = range(3)


@dataclass(frozen=True)
class Job:
    """The parameters of an evaluation's Spark job.

    Attributes:
        tasks: what the labels and scores are of.
        targets: what is measured.
        series: whose scores.
        scans: a sort for each column of scores.
        id_parts: ranges of ids' hashes, in which the sides are aligned.
        splitters: of each scan, float64 [its ranges of scores - 1], the least score of each range but the
            first.
        group_parts: ranges of groups' hashes.
        num_samples: bootstrap samples, B.
        seed: of the bootstrap.
    """

    tasks: Tasks
    targets: tuple[Target, ...]
    series: tuple[str, ...]
    scans: tuple[Scan, ...]
    id_parts: int
    splitters: tuple[Any, ...]
    group_parts: int
    num_samples: int
    seed: int

    @cached_property
    def first_parts(self) -> tuple[int, ...]:
        """The first part of each scan; groups come behind them all."""
        return (0, *accumulate(len(splitters) + 1 for splitters in self.splitters))[:-1]

    @cached_property
    def first_group_part(self) -> int:
        """The first part of the groups."""
        return sum(len(splitters) + 1 for splitters in self.splitters)

    @property
    def num_parts(self) -> int:
        """Parts of all scans and of the groups."""
        return self.first_group_part + self.group_parts

    @cached_property
    def targets_by_score(self) -> tuple[tuple[str, tuple[Target, ...]], ...]:
        """The targets of each column of scores, as every series has them."""
        return tuple((scan.score, scan.targets) for scan in self.scans if scan.series == self.scans[0].series)

    def scan_of(self, part: int) -> int:
        """Returns the place of the scan that a part is of."""
        return int(np.searchsorted(self.first_parts, part, side="right")) - 1

    def rank_layout(self, scan: Scan) -> list[Any]:
        """Returns the types of a scan's columns: score, group's hash, code of the labels (`codes_of`)."""
        return [score_type(scan), np.int64, np.uint8]

    def group_layout(self) -> list[Any]:
        """Returns the types of what is summed by group: hash, a code per score column, a score per scan."""
        return [
            np.int64,
            *[np.uint8] * len(self.targets_by_score),
            *(score_type(scan) for scan in self.scans),
        ]


def score_type(scan: Scan) -> Any:
    """Returns float32 of a model's scores, float64 of the truth's."""
    return np.float64 if scan.series == ORACLE else np.float32
