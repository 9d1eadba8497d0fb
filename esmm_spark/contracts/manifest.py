"""The manifest of a dataset: what it holds, from what, by which rules. `schemas/layout.py` has its files."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from esmm_spark.contracts.errors import InputError, SpecMismatchError
from esmm_spark.contracts.features import HASH_FUNCTION, HASH_SEED, FeatureSpec, describe_difference
from esmm_spark.contracts.fields.fitted import FittedNumber
from esmm_spark.contracts.impressions import CarriedKind, ImpressionColumns, numbers
from esmm_spark.contracts.tasks import DEFAULT_TASKS, Tasks

FORMAT_VERSION = 2
# By which rule ids and values of event logs become text. 1: as Spark casts them, so that 11 and 11.0 are two;
# 2: one text for a whole number, whatever its type.
VALUE_RULE = 2


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SourceCounts(_Strict):
    """What became of the lines of one source (one raw file or folder)."""

    name: Annotated[str, Field(description="For example `train.skeleton`.")]
    path: str
    lines_read: int
    lines_accepted: Annotated[int, Field(description="Impressions written, or contexts understood.")]
    rejects: Annotated[dict[str, int], Field(description="Reason -> lines.")] = {}
    notes: Annotated[
        dict[str, int], Field(description="Counted but no reject, e.g. `contexts_without_impressions`.")
    ] = {}


class Block(NamedTuple):
    """A stretch of a file: where it begins, its bytes, and their checksum (`runtime/checksums.py`)."""

    offset: int
    num_bytes: int
    checksum: str


class ExamplesFile(_Strict):
    """One Parquet file of a partition and its row groups."""

    path: Annotated[
        str, Field(description="Relative to the dataset, e.g. `examples/split=train/part-0.parquet`.")
    ]
    groups: Annotated[list[int], Field(description="Impression groups in each row group.")]
    impressions: Annotated[list[int], Field(description="Impressions in each row group.")]
    num_bytes: Annotated[
        list[int], Field(description="Bytes of each row group, then of the footer: the whole file.")
    ] = []
    checksums: Annotated[
        list[str],
        Field(
            description="Of each of these, `xxh3_64:<16 hex digits>`; datasets of before have 16 hex digits "
            "of XXH64, or none."
        ),
    ] = []

    @property
    def blocks(self) -> list[Block]:
        """The file's row groups and its footer as they lie in it; none in datasets of before."""
        ends = accumulate(self.num_bytes)
        blocks = zip(ends, self.num_bytes, self.checksums, strict=True)
        return [Block(end - size, size, checksum) for end, size, checksum in blocks]


class PartitionCounts(_Strict):
    """What one partition of the examples (`split=train`) holds."""

    groups: int
    impressions: int
    positives: Annotated[dict[str, int], Field(description="Task -> impressions whose label is 1.")]
    unknown: Annotated[
        dict[str, int],
        Field(description="Task -> impressions whose label isn't known; only where any."),
    ] = {}
    context_tokens: int
    impression_tokens: int
    group_hash_sum: Annotated[
        int, Field(description="Sum of group_hash modulo 2^64, as a signed 64-bit integer.")
    ]
    files: list[ExamplesFile]

    @property
    def digest(self) -> str:
        """16 hex digits that change when anything in the examples does: a label, a token, their order."""
        content = self.model_dump_json(exclude={"files": {"__all__": {"path"}}})
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def num_row_groups(self) -> int:
        """Row groups of all files."""
        return sum(len(file.groups) for file in self.files)


def add_counts(parts: Sequence[PartitionCounts]) -> PartitionCounts:
    """Returns the counts of disjoint sets of files as one, their files in the order of `parts`."""
    return PartitionCounts(
        groups=sum(part.groups for part in parts),
        impressions=sum(part.impressions for part in parts),
        positives=_add_by_key([part.positives for part in parts]),
        unknown=_add_by_key([part.unknown for part in parts]),
        context_tokens=sum(part.context_tokens for part in parts),
        impression_tokens=sum(part.impression_tokens for part in parts),
        group_hash_sum=wrapped_sum(*(part.group_hash_sum for part in parts)),
        files=[file for part in parts for file in part.files],
    )


def _add_by_key(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for key, number in count.items():
            total[key] = total.get(key, 0) + number
    return total


def wrapped_sum(*values: int) -> int:
    """Returns the sum modulo 2^64 as a signed 64-bit integer, as Spark's and torch's int64 sums wrap."""
    return (sum(values) + 2**63) % 2**64 - 2**63


class DayCounts(_Strict):
    """What became of one day's events, and what the join noticed."""

    value_rule: Annotated[
        int, Field(description="The VALUE_RULE by which it was made; days of before have none, it was 1.")
    ] = 1
    as_of: Annotated[str | None, Field(description="The `--as-of` of the run that made it.")]
    label_digest: Annotated[str, Field(description="Changes when a label of the day does.")]
    immature: Annotated[int, Field(description="Impressions whose windows end after `as_of`.")]
    sources: Annotated[list[SourceCounts], Field(description="Impressions and events of the day.")]
    warnings: list[str] = []
    events_per_day: Annotated[
        dict[str, dict[str, int]],
        Field(
            description="Log -> UTC day -> accepted events that the day was made from, of its whole range."
        ),
    ] = {}
    allowed_missing: Annotated[
        list[str], Field(description="The `--allow-missing` of the run that made it.")
    ] = []
    join: Annotated[dict[str, Any], Field(description="The report of the join, see events/join_report.py.")]


class DayPartition(_Strict):
    """One day: its examples, None where no impression was left, and how they came about."""

    examples: PartitionCounts | None
    day: DayCounts


class Manifest(_Strict):
    """What a dataset holds, from what, and by which rules."""

    format_version: int = FORMAT_VERSION
    feature_spec: FeatureSpec
    feature_spec_digest: str
    hash_function: str = HASH_FUNCTION
    hash_seed: int = HASH_SEED
    tasks: Tasks = DEFAULT_TASKS
    carry: Annotated[dict[str, CarriedKind], Field(description="The config's samples.carry.")] = {}
    fitted: Annotated[
        dict[str, FittedNumber],
        Field(description="Numeric field -> the boundaries, mean and scale that its numbers were placed by."),
    ] = {}
    vocabulary_digest: Annotated[
        str | None, Field(description="Number and hash of the frequent values, where values are counted.")
    ] = None
    sources: list[SourceCounts]
    partitions: Annotated[dict[str, PartitionCounts], Field(description="`split=train` -> its counts.")]
    config: Annotated[dict[str, Any], Field(description="The config that made the dataset.")]
    days: Annotated[
        dict[str, DayCounts] | None, Field(description="`ds=2026-11-23` -> its counts; only of event logs.")
    ] = None

    @property
    def brought(self) -> ImpressionColumns:
        """The labels and carried columns of the examples."""
        return ImpressionColumns(self.tasks, self.carry)

    def partition(self, name: str, dataset: str) -> PartitionCounts:
        """Returns the counts of one partition. Raises InputError where the dataset has none of that name."""
        if name not in self.partitions:
            raise InputError(
                f"dataset {dataset} has no partition {name}: it has {', '.join(sorted(self.partitions))}"
            )
        return self.partitions[name]


def require_same_spec(ours: FeatureSpec, our_name: str, theirs: FeatureSpec, their_name: str) -> None:
    """Raises SpecMismatchError, naming both, unless the two specs turn the same log into the same rows."""
    if ours.digest != theirs.digest:
        raise SpecMismatchError(
            f"{our_name} has feature spec {ours.digest}, {their_name} has {theirs.digest} "
            f"(they differ in {describe_difference(ours, theirs)}): preprocess or train again with one spec"
        )


def require_same_tasks(ours: Tasks, our_name: str, theirs: Tasks, their_name: str) -> None:
    """Raises SpecMismatchError, naming both, unless the two have the same labels in the same order."""
    if ours != theirs:
        raise SpecMismatchError(
            f"{our_name} has the tasks {ours.described()}; {their_name} has {theirs.described()}: preprocess "
            "or train again with the same tasks"
        )


def require_carried(columns: Iterable[str], carry: Mapping[str, CarriedKind], name: str) -> None:
    """Raises InputError if a dataset doesn't carry a column that the loss reads."""
    missing = [column for column in columns if column not in numbers(carry)]
    if missing:
        found = ", ".join(numbers(carry)) or "no number"
        raise InputError(
            f"losses reads {', '.join(missing)}, but {name} carries {found}: "
            "name it in samples.carry and preprocess again"
        )


def require_known_labels(tasks: Tasks, counts: PartitionCounts, selection: str) -> None:
    """Raises InputError if all labels of a task are unknown: it could not be trained."""
    for name in tasks.names:
        if 0 < counts.impressions == counts.unknown.get(name):
            raise InputError(
                f"no {name} of the {counts.impressions:,} impressions of {selection} is known: train on "
                "others, or drop the task"
            )
