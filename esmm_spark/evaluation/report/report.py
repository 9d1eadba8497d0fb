"""report.html: the page of all sections."""

from collections.abc import Callable

from esmm_spark.contracts.tasks import plural
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import MODEL
from esmm_spark.evaluation.report.sections import (
    calibration,
    comparison,
    join,
    method,
    metrics,
    requirements,
    roc,
    scores,
    training,
)
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.evaluation.report.words import counts_of_tasks, rate_of
from esmm_spark.pages.numbers import percent
from esmm_spark.pages.page import Frame, PageSection, Tile, page

MakeSection = Callable[[Subject, Measurements], PageSection | None]

# In the page's order. Another section is a file of sections/ and a line here.
SECTIONS: tuple[MakeSection, ...] = (
    requirements.section,
    metrics.section,
    comparison.section,
    roc.section,
    calibration.section,
    scores.section,
    training.section,
    join.section,
    method.section,
)


def report_html(subject: Subject, measured: Measurements) -> str:
    """Returns report.html: of what is evaluated, the numbers."""
    name = subject.names[MODEL]
    beside = [subject.names[series] for series in measured.series if series != MODEL]
    lead = f"{name} {subject.model_version} on {subject.partition} of {subject.dataset}"
    lead += f", beside {' and '.join(beside)}." if beside else "."
    made = (make(subject, measured) for make in SECTIONS)
    sections = [section for section in made if section is not None]
    frame = Frame(
        f"{name} evaluation: {subject.partition}",
        lead,
        "metrics.json holds the same numbers and the points of the curves.",
        "esmm_spark.evaluation.report",
        _tiles(subject, measured),
    )
    return page(frame, sections)


def _tiles(subject: Subject, measured: Measurements) -> list[Tile]:
    unlabelled = f"{measured.num_unlabelled:,} without labels" if measured.num_unlabelled else "all labelled"
    per_group = measured.num_impressions / max(1, measured.num_groups)
    tiles = [
        Tile("Impressions", f"{measured.num_impressions:,}", unlabelled),
        Tile("Contexts", f"{measured.num_groups:,}", f"{per_group:.1f} impressions each"),
    ]
    for task, counts in counts_of_tasks(measured, subject.tasks).items():
        share = percent(counts.positives, counts.impressions)
        note = rate_of(task, subject.tasks, share)
        tiles.append(Tile(plural(task).capitalize(), f"{counts.positives:,}", note))
    return tiles
