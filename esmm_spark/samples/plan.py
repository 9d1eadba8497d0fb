"""The parameters and the report of a grouping task."""

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.contracts.sample_config import Samples
from esmm_spark.samples.grouping.buffers import Counts
from esmm_spark.samples.hashing.held_out import HeldOut
from esmm_spark.spark.tasks import TaskReport


@dataclass(frozen=True)
class GroupingPlan:
    """How lines become examples.

    Attributes:
        spec: the feature spec.
        brought: the labels and carried columns of an impression.
        dataset: URI of the folder in which `examples/` and `rejects/` are written, not relative.
        partition: for example `split=train`.
        source: the name of the logs in rejects and manifest; `.skeleton` or `.common_features` is put behind
            it.
        samples: the config's section: how large groups, row groups and files are.
        held_out: the groups that go to another partition, if any.
        vocabulary: URI of the folder with the frequent values, if the spec needs one.
        for_scoring: whether labels may be empty, whatever `samples.unknown_labels` says.
    """

    spec: FeatureSpec
    brought: ImpressionColumns
    dataset: str
    partition: str
    source: str
    samples: Samples
    held_out: HeldOut | None = None
    vocabulary: str | None = None
    for_scoring: bool = False

    @property
    def row_group_bytes(self) -> int:
        """Bytes of a Parquet row group, in memory."""
        return int(self.samples.row_group_mb * (1 << 20))

    @property
    def labels_required(self) -> bool:
        """Whether an impression with an empty label is rejected."""
        return not self.for_scoring and self.samples.unknown_labels == "reject"

    @property
    def partitions(self) -> list[str]:
        """The partitions that are written."""
        return [self.partition] + ([self.held_out.partition] if self.held_out else [])


class LineCounts(BaseModel):
    """What became of lines, as the kernel counts it: kind 0 context, 1 impression."""

    model_config = ConfigDict(extra="forbid")

    by_reason: list[list[int]]
    unknown_tokens: list[int]
    cut_tokens: int
    idle_contexts: int

    @classmethod
    def of(cls, counts: Counts) -> "LineCounts":
        """Returns the kernel's counts as plain integers."""
        return cls(
            by_reason=counts.by_reason.tolist(),
            unknown_tokens=counts.unknown_tokens.tolist(),
            cut_tokens=int(counts.cut_tokens[0]),
            idle_contexts=int(counts.idle_contexts[0]),
        )

    def __add__(self, other: "LineCounts") -> "LineCounts":
        return LineCounts(
            by_reason=(np.array(self.by_reason) + np.array(other.by_reason)).tolist(),
            unknown_tokens=(np.array(self.unknown_tokens) + np.array(other.unknown_tokens)).tolist(),
            cut_tokens=self.cut_tokens + other.cut_tokens,
            idle_contexts=self.idle_contexts + other.idle_contexts,
        )


class GroupingReport(TaskReport):
    """What one task wrote. Only what a task that Spark counts as done reports becomes part of the dataset.

    Attributes:
        several_keys: whether it met an impression id under several keys: then it wrote nothing.
        read: [2][3], lines, blank lines and bytes of both kinds, of the readers whose counts it was sent.
        lines: what became of the lines that it was sent.
        partitions: what it wrote.
        rejects_file: what it rejected.
    """

    several_keys: bool
    read: list[list[int]]
    lines: LineCounts
    partitions: dict[str, PartitionCounts]
    rejects_file: str | None
