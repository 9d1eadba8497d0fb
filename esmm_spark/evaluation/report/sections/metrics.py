"""The section with every metric of every series, and the evaluation's warnings."""

from typing import NamedTuple

from esmm_spark.contracts.schemas.targets import BETTER, MetricKind, Target
from esmm_spark.evaluation.measure.estimates import LEVEL, Estimate
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.metrics import METRICS
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE
from esmm_spark.evaluation.report import drawing, formats
from esmm_spark.evaluation.report.cautions import is_miscalibrated, warnings_of, why_no_interval
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.evaluation.report.words import meaning_of
from esmm_spark.pages.page import PageSection


class _Column(NamedTuple):
    name: str
    colour: str


class _Cell(NamedTuple):
    value: str
    interval: str
    mark: str
    is_long: bool


class _Line(NamedTuple):
    title: str
    cells: list[_Cell]
    meaning: str


def section(subject: Subject, measured: Measurements) -> PageSection:
    """Returns a block of lines per metric, a line per target, a column per series and one for differences."""
    columns = [_Column(subject.names[series], drawing.COLOURS[series]) for series in measured.series]
    if measured.differences:
        columns.append(_Column(f"{subject.names[MODEL]} \N{MINUS SIGN} {subject.names[BASELINE]}", ""))
    blocks = [
        (
            metric.title,
            [_line(subject, measured, target, kind) for target in measured.targets if kind in target.kinds],
        )
        for kind, metric in METRICS.items()
    ]
    values = {
        "warnings": warnings_of(subject, measured),
        "columns": columns,
        "blocks": blocks,
        "texts": [_reading(subject, measured)],
    }
    return PageSection("Metrics", "metrics.html", values)


def _line(subject: Subject, measured: Measurements, target: Target, kind: MetricKind) -> _Line:
    cells = []
    for series in measured.series:
        found = measured.estimate(series, target, kind)
        is_wrong = kind == "calibration" and series == MODEL and is_miscalibrated(found)
        cells.append(_cell(kind, found, mark="bad" if is_wrong else ""))
    if measured.differences:
        found = measured.differences[target.metric(kind)]
        cells.append(_cell(kind, found, _mark(kind, found), signed=True))
    return _Line(target.title, cells, meaning_of(target, kind, subject.tasks))


def _cell(kind: MetricKind, estimate: Estimate, mark: str, signed: bool = False) -> _Cell:
    value = formats.value_of(kind, estimate, signed)
    return _Cell(value, formats.interval_of(kind, estimate, signed), mark, estimate.value is None)


def _mark(kind: MetricKind, found: Estimate) -> str:
    """Returns `good` or `bad` where the interval of a difference leaves out 0 and one direction is better."""
    interval = found.interval
    better = BETTER[kind]
    if interval is None or better is None or interval[0] <= 0 <= interval[1]:
        return ""
    return "good" if (interval[0] > 0) == (better == "higher") else "bad"


def _reading(subject: Subject, measured: Measurements) -> str:
    """Returns how the table is read."""
    text = (
        f"Small print: {LEVEL:.0%} intervals over {subject.num_samples} resamples of the contexts."
        if subject.num_samples
        else "Without intervals: evaluate.bootstrap_samples is 0."
    )
    if reason := why_no_interval(measured):
        text += f" {formats.NO_INTERVAL.capitalize()}: {reason}."
    if measured.differences:
        text += " A difference is bold where its interval leaves out 0."
    if ORACLE in measured.series:
        text += (
            " The oracle's scores are the probabilities that the simulator drew the labels from: no model "
            "can be expected to do better."
        )
    return text
