"""The sections of an evaluation's report."""

from html import escape

from esmm_spark.evaluation.measure.estimates import LEVEL, Estimate
from esmm_spark.evaluation.measure.group_metrics import LOG_LOSS_EPSILON
from esmm_spark.evaluation.measure.measurement import Measurements
from esmm_spark.evaluation.measure.targets import (
    BASELINE,
    CVR_CLICKS,
    KINDS,
    MODEL,
    ORACLE,
    Kind,
    Ranking,
    Target,
)
from esmm_spark.evaluation.report import formats, plots
from esmm_spark.evaluation.report.cautions import is_miscalibrated, warnings_of, why_no_interval
from esmm_spark.evaluation.report.comparison import comparison_section
from esmm_spark.evaluation.report.page import Section, Tile, facts, figures, note, page, paragraph
from esmm_spark.evaluation.report.subject import KIND_TITLES, Subject, meaning_of, population_of

_SCORE_NAMES = {"pctr": "pCTR", "pcvr": "pCVR", "pctcvr": "pCTCVR"}


def report_html(subject: Subject, measured: Measurements, more: tuple[Section, ...] = ()) -> str:
    """Returns report.html.

    Args:
        subject: what is evaluated.
        measured: the numbers.
        more: sections of other stages, put behind the evaluation's own.
    """
    name = subject.names[MODEL]
    beside = [subject.names[series] for series in measured.series if series != MODEL]
    lead = f"{name} {subject.model_version} on {subject.partition} of {subject.dataset}"
    lead += f", beside {' and '.join(beside)}." if beside else "."
    sections = [
        Section("Metrics", _metrics_table(subject, measured)),
        comparison_section(subject, measured),
        Section("ROC curves", _roc(subject, measured)),
        Section("Calibration", _calibration(subject, measured)),
        Section("Scores", _histograms(subject, measured)),
        Section("Training", _training(subject)),
        *more,
        Section("How this was measured", _method(subject, measured)),
    ]
    return page(f"{name} evaluation: {subject.partition}", lead, _tiles(measured), sections)


def _tiles(measured: Measurements) -> list[Tile]:
    clicks, conversions = measured.labels["ctr"], measured.labels["ctcvr"]
    unlabelled = f"{measured.num_unlabelled:,} without labels" if measured.num_unlabelled else "all labelled"
    per_group = measured.num_impressions / max(1, measured.num_groups)
    on_clicks = measured.labels[CVR_CLICKS.name]
    return [
        Tile("Impressions", f"{measured.num_impressions:,}", unlabelled),
        Tile("Contexts", f"{measured.num_groups:,}", f"{per_group:.1f} impressions each"),
        Tile(
            "Clicks", f"{clicks.positives:,}", f"CTR {formats.percent(clicks.positives, clicks.impressions)}"
        ),
        Tile(
            "Conversions",
            f"{conversions.positives:,}",
            f"CVR {formats.percent(on_clicks.positives, on_clicks.impressions)} of clicks",
        ),
    ]


def _metrics_table(subject: Subject, measured: Measurements) -> str:
    heads = "".join(
        f'<th class="n">{_key(series)}{_name(subject, series)}</th>' for series in measured.series
    )
    if measured.differences:
        heads += f'<th class="n">{_difference_name(subject)}</th>'
    num_columns = 2 + len(measured.series) + bool(measured.differences)
    rows = ""
    for kind in KINDS:
        rows += f'<tr class="kind"><th colspan="{num_columns}">{KIND_TITLES[kind]}</th></tr>\n'
        for target in measured.targets:
            if kind in target.kinds:
                rows += _row(subject, measured, target, kind)
    intervals = (
        f"Small print: {LEVEL:.0%} intervals over {subject.num_samples} resamples of the contexts."
        if subject.num_samples
        else "Without intervals: evaluate.bootstrap_samples is 0."
    )
    oracle = (
        " The oracle's scores are the probabilities that the simulator drew the labels from: no model can be "
        "expected to do better."
        if ORACLE in measured.series
        else ""
    )
    difference = " A difference is bold where its interval leaves out 0." if measured.differences else ""
    missing = (
        f" {formats.NO_INTERVAL.capitalize()}: {reason}." if (reason := why_no_interval(measured)) else ""
    )
    return (
        note(warnings_of(subject, measured)) + f'<div class="scroll"><table>'
        f'<thead><tr><th>Metric</th>{heads}<th class="meaning">What it means</th></tr></thead>'
        f"<tbody>\n{rows}</tbody></table></div>\n<p></p>"
        + paragraph(intervals + missing + difference + oracle)
    )


def _row(subject: Subject, measured: Measurements, target: Target, kind: Kind) -> str:
    cells = ""
    for series in measured.series:
        found = measured.estimate(series, target, kind)
        mark = "bad" if kind == "calibration" and series == MODEL and is_miscalibrated(found) else ""
        cells += _cell(kind, found, _name(subject, series), mark=mark)
    if measured.differences:
        found = measured.differences[target.metric(kind)]
        cells += _cell(kind, found, _difference_name(subject), signed=True, mark=_mark(kind, found))
    return (
        f"<tr><th>{escape(target.title)}</th>{cells}"
        f'<td class="meaning">{escape(meaning_of(target, kind))}</td></tr>\n'
    )


def _cell(kind: Kind, estimate: Estimate, label: str, signed: bool = False, mark: str = "") -> str:
    value = _minus(formats.value_of(kind, estimate, signed))
    interval = _minus(formats.interval_of(kind, estimate, signed))
    kind_of_cell = "n long" if estimate.value is None else "n"
    small = f"<small>{interval}</small>" if interval else ""
    return f'<td class="{kind_of_cell}" data-label="{label}"><span class="{mark}">{value}</span>{small}</td>'


def _mark(kind: Kind, found: Estimate) -> str:
    """Returns `good` or `bad` where the interval of a difference leaves out 0 and one direction is better."""
    interval = found.interval
    if interval is None or kind == "calibration" or interval[0] <= 0 <= interval[1]:
        return ""
    is_higher = interval[0] > 0
    return "good" if is_higher != (kind == "log_loss") else "bad"


def _roc(subject: Subject, measured: Measurements) -> str:
    drawings, missing = [], []
    for target in measured.targets:
        if measured.estimate(MODEL, target, "auc").value is None:
            missing.append(
                f"{target.title}: {formats.value_of('auc', measured.estimate(MODEL, target, 'auc'))}"
            )
        else:
            drawings.append(
                (plots.roc_plot(measured, target, subject.names), _caption(target, population_of(target)))
            )
    text = paragraph(
        "Shares of the positives that lie above a threshold, against those of the negatives, for all "
        "thresholds. The grey line is guessing."
    )
    return text + figures(drawings) + _missing(missing)


def _calibration(subject: Subject, measured: Measurements) -> str:
    drawings, missing = [], []
    for target in measured.targets:
        if Ranking(MODEL, target) not in measured.curves:
            missing.append(f"{target.title}: n/a (no labelled impression)")
            continue
        svg = plots.calibration_plot(measured, target, subject.names)
        ratios = " &middot; ".join(
            f"{_name(subject, series)} {formats.value_of('calibration', found)}"
            for series in measured.series
            for found in (measured.estimate(series, target, "calibration"),)
        )
        drawings.append((svg, _caption(target, "predicted / actual: ") + ratios))
    text = paragraph(
        "Impressions sorted by score into bins of about equal size: the mean score of a bin, and the rate "
        "that was observed in it with its 95% interval (Wilson's). On the grey line, what was promised "
        "happened."
    )
    return text + figures(drawings) + _missing(missing)


def _histograms(subject: Subject, measured: Measurements) -> str:
    labels = {
        "ctr": ("not clicked", "clicked"),
        "cvr_clicks": ("not converted", "converted"),
        "ctcvr": ("not converted", "converted"),
        "cvr_entire_space": ("would not convert", "would convert"),
    }
    html = paragraph(
        "How far the scores of both labels lie apart. The bars of a label add up to 100%, however rare it is."
    )
    for series in measured.series:
        drawings = []
        for target in measured.targets:
            curves = measured.curves.get(Ranking(series, target))
            if curves is not None and series != ORACLE:
                name, title = subject.names[series], target.title
                svg = plots.histogram_plot(curves.histogram, title, name, labels[target.name])
                drawings.append(
                    (svg, _caption(target, f"{_SCORE_NAMES[target.score]} of {population_of(target)}"))
                )
        if drawings:
            html += f"<h3>{_key(series)}{_name(subject, series)}</h3>" + figures(drawings)
    return html


def _training(subject: Subject) -> str:
    history = subject.history
    if history is None:
        return paragraph(
            f"No training curves: {subject.history_note}. They lie in the model version, below paths.model."
        )
    drawings = []
    if history.steps:
        drawings.append((plots.loss_plot(history), "<b>Training loss</b>: both terms of the loss together"))
    if any(epoch.ctr_auc is not None for epoch in history.epochs):
        drawings.append(
            (plots.validation_plot(history), "<b>Validation AUC</b>: on contexts set aside from training")
        )
    if any(step.impressions_per_s is not None for step in history.steps):
        drawings.append((plots.speed_plot(history), "<b>Speed</b>: over all ranks"))
    return figures(drawings)


def _method(subject: Subject, measured: Measurements) -> str:
    text = paragraph(
        "AUCs are exact: Spark sorts all impressions of a target by score, ties count one half, nothing is "
        "binned or sampled. Calibration curves and histograms keep exact counts and sums in cells of scores."
    )
    if subject.num_samples:
        text += paragraph(
            f"Intervals are {LEVEL:.0%} percentile intervals over {subject.num_samples} Poisson resamples of "
            "whole contexts, since impressions of one context are alike. Series are compared on the same "
            "resamples. They show what other traffic would change, not what another training seed would."
        )
    text += paragraph(
        f"For the log loss, scores are kept {LOG_LOSS_EPSILON:.1e} away from 0 and 1. GAUC is over contexts "
        "with both labels."
    )
    rows = {"Partition": subject.partition, "Dataset": subject.dataset, "Scores": subject.scores}
    rows["Model version"] = subject.model_version
    if subject.baseline_scores is not None:
        rows[f"{subject.names[BASELINE]}'s scores"] = subject.baseline_scores
        rows[f"{subject.names[BASELINE]}'s model version"] = str(subject.baseline_version)
    rows["Truth"] = subject.truth or "none"
    rows["Bootstrap"] = f"{subject.num_samples} resamples, seed {subject.seed}"
    rows["Training curves"] = subject.history_note
    for target in measured.targets:
        counts = measured.labels[target.name]
        rows[target.title] = f"{counts.impressions:,} impressions with a label, {counts.positives:,} positive"
    return text + facts(rows)


def _caption(target: Target, text: str) -> str:
    return f"<b>{escape(target.title)}</b>: {escape(text)}"


def _missing(lines: list[str]) -> str:
    return "".join(paragraph(line) for line in lines)


def _name(subject: Subject, series: str) -> str:
    return escape(subject.names[series])


def _difference_name(subject: Subject) -> str:
    return f"{_name(subject, MODEL)} &minus; {_name(subject, BASELINE)}"


def _key(series: str) -> str:
    return f'<span class="key" style="background:{plots.COLOURS[series]}"></span>'


def _minus(text: str) -> str:
    """Returns the text of a number as HTML, with a minus as wide as a plus."""
    return escape(text).replace("-", "&minus;") if "n/a" not in text else escape(text)
