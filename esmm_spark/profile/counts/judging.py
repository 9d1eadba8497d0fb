"""What a sample tells of each column: AUCs per task, whether it differs within keys, whether it is later."""

from collections.abc import Sequence

import numpy as np

from esmm_spark.contracts.tasks import NO_PARENT
from esmm_spark.profile.counts.facts import SampleFacts
from esmm_spark.profile.counts.sample import Sampled
from esmm_spark.profile.counts.separation import differing_keys, separation
from esmm_spark.runtime.arrays import Bools, Int64s


def judge(sample: Sampled, tasks: Sequence[str], parents: Sequence[int], to_us: float) -> list[SampleFacts]:
    """Returns what is known of each column.

    Args:
        sample: N lines.
        tasks: [K] names.
        parents: [K] the index of each task's parent, NO_PARENT of a root.
        to_us: what a number of the time column's unit is multiplied with to give microseconds; 0: there is
            none.
    """
    halves = (sample.keys & 1).astype(np.bool_)
    judged = [_judged(sample, task, parent) for task, parent in enumerate(parents)]
    several, _ = _of_several_lines(sample.keys)
    found = []
    for hashes, numbers, missing in zip(sample.hashes, sample.numbers, sample.missing, strict=True):
        # A missing value is a value of its own.
        values = np.where(missing, np.int64(0), hashes)
        separations = {
            name: separation(
                numbers[where], values[where], missing[where], sample.labels[task][where] == 1, halves[where]
            )
            for task, (name, where) in enumerate(zip(tasks, judged, strict=True))
        }
        later = int((numbers * to_us > sample.times_us).sum()) if to_us else 0
        found.append(SampleFacts(separations, differing_keys(sample.keys[several], values[several]), later))
    return found


def keys_of_several_lines(sample: Sampled) -> int:
    """Returns how many context keys have several lines."""
    return _of_several_lines(sample.keys)[1]


def _of_several_lines(keys: Int64s) -> tuple[Bools, int]:
    values, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return counts[place] > 1, int((counts > 1).sum()) if len(values) else 0


def _judged(sample: Sampled, task: int, parent: int) -> Bools:
    known = ~np.isnan(sample.labels[task])
    return known if parent == NO_PARENT else np.logical_and(known, sample.labels[parent] == 1)
