"""Checks by the tasks' counts that all sides have each impression once, or tells how many have not."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.evaluation.measure.inputs import Source, one_version
from esmm_spark.evaluation.measure.sides import TITLES
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE


class NoteCounts:
    """The sums of all tasks' notes.

    Args:
        notes: of tasks that read, `{"side", "impressions", ...}`, and of those that align, `{"counts": ...}`.

    Attributes:
        read: series -> count -> its sum over the tasks that read it.
        aligned: count -> its sum over the tasks that align.
        versions: series -> model versions that its scores carry.
    """

    def __init__(self, notes: Iterable[Mapping[str, Any]]) -> None:
        self.read: dict[str, Counter[str]] = {}
        self.aligned: Counter[str] = Counter()
        self.versions: dict[str, set[str | None]] = {}
        for note in notes:
            if "counts" in note:
                self.aligned.update(note["counts"])
                continue
            counts = {name: count for name, count in note.items() if isinstance(count, int)}
            self.read.setdefault(note["side"], Counter()).update(counts)
            self.versions.setdefault(note["side"], set()).update(note["versions"])


def check(counts: NoteCounts, sources: Mapping[str, Source]) -> dict[str, str]:
    """Returns the model version of each series that has one.

    Raises:
        InputError: an impression id that comes twice, one that the other side lacks, a score outside [0, 1],
            an impossible label, labels that differ: with the number of them; several model versions.
        CountMismatchError: not every impression of the scores came through.
    """
    aligned = counts.aligned
    versions = {
        series: one_version(counts.versions[series], sources[series].uri)
        for series in sources
        if series != ORACLE
    }
    read = counts.read[MODEL]
    came_through = aligned["impressions"] + read["without_id"]
    if came_through != sources[MODEL].num_impressions:
        raise CountMismatchError(
            f"the scores' files hold {sources[MODEL].num_impressions} impressions, {came_through} came "
            "through the alignment"
        )
    if read["without_id"] or read["without_group"]:
        raise InputError(
            f"{read['without_id']} scores lack an impression_id, {read['without_group']} a group_key: "
            "score the partition again with --force"
        )
    for series in sources:
        for count, problem in _problems(aligned, series):
            if count:
                raise InputError(f"{count} {problem}")
    if aligned["differing_labels"]:
        raise InputError(
            f"{aligned['differing_labels']} impressions have other labels in the baseline's scores than in "
            "the scores: evaluate both on one partition"
        )
    return versions


def _problems(counts: Mapping[str, int], series: str) -> list[tuple[int, str]]:
    """Returns what may be wrong with one input: how often it is, and the message behind that number."""
    name = TITLES[series]
    # A repeated impression counts as often as it comes.
    impressions = counts["impressions"]
    return [
        (
            counts[f"{series}_duplicates"],
            f"impression ids come more than once in {name} ({counts[f'{series}_repetitions']} times): "
            f"an impression is evaluated once, write {name} again",
        ),
        (
            counts[f"{series}_missing"],
            f"of {impressions} scored impressions are not in {name}: both must be of one partition",
        ),
        (
            counts[f"{series}_surplus"] if series == BASELINE else 0,
            f"impressions of {name} are not among the {impressions} scores: both must be of one partition",
        ),
        (counts[f"{series}_bad_scores"], f"impressions have a score outside [0, 1], NaN or null in {name}"),
        (
            counts[f"{series}_bad_labels"],
            f"impressions have impossible labels in {name}: labels are 0 or 1, 1 only where the parent's is",
        ),
    ]
