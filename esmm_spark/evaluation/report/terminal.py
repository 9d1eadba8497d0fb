"""Tables of all metrics in the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from esmm_spark.contracts.schemas.targets import MetricKind, Target
from esmm_spark.contracts.tasks import plural
from esmm_spark.evaluation.measure.estimates import Estimate
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.metrics import METRICS
from esmm_spark.evaluation.report import formats
from esmm_spark.evaluation.report.cautions import why_no_interval
from esmm_spark.evaluation.report.requirements import requirements_of
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.evaluation.report.words import counts_of_tasks, words_of

_MOST_COLUMNS = 4


def terminal_summary(subject: Subject, measured: Measurements) -> RenderableType:
    """Returns the metrics as tables that fit 80 columns, of at most four targets each.

    A block of lines per metric, a line per series, a column per target. A value stands with half the width of
    its interval: `0.7312 ±0.0040`.
    """
    starts = range(0, len(measured.targets), _MOST_COLUMNS)
    tables = [_table(subject, measured, measured.targets[start : start + _MOST_COLUMNS]) for start in starts]
    title = Text(_title(subject, measured), style="bold")
    return Group(title, *tables, *_notes(subject, measured), *_requirements(subject, measured))


def _table(subject: Subject, measured: Measurements, targets: Sequence[Target]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for target in targets:
        table.add_column(words_of(target, subject.tasks).header, justify="right")
    for kind, metric in METRICS.items():
        table.add_row(Text(metric.title, style="bold"))
        for series in measured.series:
            cells = [
                _cell(kind, measured.estimate(series, target, kind)) if kind in target.kinds else Text("")
                for target in targets
            ]
            table.add_row(Text(f"  {subject.names[series]}"), *cells)
    return table


def _title(subject: Subject, measured: Measurements) -> str:
    counts = counts_of_tasks(measured, subject.tasks).items()
    positives = "".join(f"{found.positives:,} {plural(task)}, " for task, found in counts)
    impressions = f"{measured.num_impressions:,} impressions"
    return f"{subject.partition}: {impressions}, {positives}model {subject.model_version}"


def _cell(kind: MetricKind, estimate: Estimate) -> Text:
    text = Text(formats.value_of(kind, estimate))
    interval = estimate.interval
    if interval is not None:
        text.append(f" ±{formats.number(kind, (interval[1] - interval[0]) / 2)}", style="dim")
    elif formats.interval_of(kind, estimate):
        text.append(" ±n/a", style="dim")
    return text


def _requirements(subject: Subject, measured: Measurements) -> list[Text]:
    found = requirements_of(subject, measured)
    return [Text(f"{'met' if of.is_met else 'NOT MET'}: {of.told(name)}") for name, of in found.items()]


def _notes(subject: Subject, measured: Measurements) -> list[Text]:
    if subject.num_samples == 0:
        return []
    interval = f"± half of the 95% interval over {subject.num_samples} resamples of the contexts"
    why = why_no_interval(measured)
    return [Text(interval + (f"; n/a: {why}" if why else ""), "dim")]
