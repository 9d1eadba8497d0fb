"""Samples scores from all over the files, to cut them into ranges of about equal size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esmm_spark.contracts.tasks import Tasks
from esmm_spark.evaluation.measure.alignment import codes_of
from esmm_spark.evaluation.measure.inputs import Source
from esmm_spark.evaluation.measure.plan import Span, num_parts, splitters_of
from esmm_spark.evaluation.measure.reading import read_columns
from esmm_spark.evaluation.measure.sides import fill_entire, fill_labels, side_columns
from esmm_spark.evaluation.measure.targets import MODEL, ORACLE, Scan

_MOST_SPANS = 16
_MOST_IMPRESSIONS = 1 << 19


def sampled_splitters(sources: Mapping[str, Source], scans: Sequence[Scan], tasks: Tasks) -> tuple[Any, ...]:
    """Returns the splitters of each scan's scores (`plan.splitters_of`).

    Raises:
        InputError: a file is damaged.
    """
    num_impressions = sources[MODEL].num_impressions
    if num_parts(num_impressions) == 1:
        return tuple(np.empty(0) for _ in scans)
    samples = {series: _sample(series, source, tasks) for series, source in sources.items()}
    found = []
    for scan in scans:
        scores, labels = samples[scan.series]
        score = scores[scan.score]
        # Where labels are known, those that don't count have no part in it.
        counts = np.ones(len(score), dtype=bool)
        if all(target.label in labels for target in scan.targets):
            counts = codes_of(scan.targets, labels) > 0
        share = counts.mean() if len(counts) else 0.0
        found.append(splitters_of(score[counts & (score >= 0)], num_parts(share * num_impressions)))
    return tuple(found)


def _sample(series: str, source: Source, tasks: Tasks) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns scores and labels of some impressions."""
    columns = side_columns(series, tasks)
    spans = _spread(source.spans)
    parts = [part for span in spans for part in read_columns(span, columns, _MOST_IMPRESSIONS // len(spans))]
    scores = {name: np.concatenate([part[0][name] for part in parts]) for name in columns.scores}
    labels = {name: np.concatenate([part[1][name] for part in parts]) for name in columns.labels}
    return (fill_entire(scores, tasks), {}) if series == ORACLE else (scores, fill_labels(labels, tasks))


def _spread(spans: Sequence[Span]) -> list[Span]:
    """Returns some of the spans, evenly from first to last."""
    places = np.unique(np.linspace(0, len(spans) - 1, _MOST_SPANS).round().astype(int))
    return [spans[place] for place in places]
