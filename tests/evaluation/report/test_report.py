"""The report and the terminal's table, over numbers made up here."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, Any
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import escape
from matplotlib.figure import Figure
from rich.console import Console

from esmm_spark.contracts.schemas.records import EpochRecord, StepRecord, TrainHistory
from esmm_spark.contracts.schemas.requirements import Bounds
from esmm_spark.contracts.schemas.targets import KINDS, TARGETS
from esmm_spark.evaluation.measure.curves import ScoreGrid, calibration_curve, histogram
from esmm_spark.evaluation.measure.estimates import Estimate
from esmm_spark.evaluation.measure.measurement import Curves, Measurements
from esmm_spark.evaluation.measure.targets import LabelCounts, Ranking
from esmm_spark.evaluation.report import report
from esmm_spark.evaluation.report.cautions import warnings_of
from esmm_spark.evaluation.report.report import report_html
from esmm_spark.evaluation.report.requirements import requirements_of
from esmm_spark.evaluation.report.sections.comparison import conclusion
from esmm_spark.evaluation.report.subject import Subject
from esmm_spark.evaluation.report.summary import metrics_json
from esmm_spark.evaluation.report.terminal import terminal_summary
from esmm_spark.pages.numbers import percent
from esmm_spark.pages.page import Frame, PageSection, Table, page

pytestmark = pytest.mark.slow

ALL = ("model", "baseline", "oracle")
HISTORY = TrainHistory(
    steps=[StepRecord(step=s, epoch=0, loss=1 / s, impressions_per_s=1e5) for s in range(1, 3000)],
    epochs=[EpochRecord(epoch=e, step=1500 * (e + 1), ctr_auc=0.7, ctcvr_auc=0.8) for e in range(2)],
)


def subject(**changes: Any) -> Subject:
    return replace(
        Subject(
            partition="split=test",
            dataset="data/<b>&",
            scores="scores/split=test",
            model_version="000001-aaaa",
            names={"model": "ESMM", "baseline": "BASE", "oracle": "oracle"},
            baseline_scores="base/split=test",
            baseline_version="000007-bbbb",
            truth="truth.parquet",
            num_samples=3,
            seed=42,
            history=HISTORY,
            history_note="model/history.json",
            required={"ctr_auc": Bounds(0.1, None), "ctcvr_calibration": Bounds(7.0, 8.0)},
        ),
        **changes,
    )


def measured(series: Sequence[str] = ALL, reason: str | None = None) -> Measurements:
    """Returns made-up numbers: model 0.75, baseline 0.7, oracle 0.8; or nothing but a reason."""
    has_truth = "oracle" in series
    targets = [target for target in TARGETS if has_truth or not target.needs_truth]
    rankings = [Ranking(name, target) for name in series for target in targets]
    levels = {"model": 0.75, "baseline": 0.7, "oracle": 0.8}

    def estimate(value: float) -> Estimate:
        if reason is not None:
            return Estimate(None, np.full(3, np.nan), reason)
        return Estimate(value, value + np.array([-0.01, 0, 0.01]), None, {"impressions": 90, "positives": 9})

    estimates = {
        (ranking.series, ranking.target.metric(kind)): estimate(levels[ranking.series])
        for ranking in rankings
        for kind in ranking.target.kinds
    }
    grid = ScoreGrid(np.arange(-200, 0, 10), np.full(20, 50.0), np.arange(20.0), np.linspace(0.1, 25, 20))
    roc = (np.array([0.0, 0.2, 1.0]), np.array([0.0, 0.7, 1.0]))
    curves = Curves(roc, calibration_curve(grid, 5), histogram(grid))
    return Measurements(
        series=tuple(series),
        targets=tuple(target for target in TARGETS if has_truth or not target.needs_truth),
        num_impressions=12345,
        num_unlabelled=0,
        num_groups=100,
        labels={target.name: LabelCounts(12345, 678) for target in TARGETS},
        estimates=estimates,
        differences={
            key: estimate(0.05) for (name, key) in estimates if name == "model" and "baseline" in series
        },
        curves={} if reason else dict.fromkeys(rankings, curves),
    )


def shown(subject: Subject, measurements: Measurements, width: int = 100) -> str:
    written = io.StringIO()
    Console(file=written, width=width).print(terminal_summary(subject, measurements))
    return written.getvalue()


def page_with_blank_plots(subject: Subject, measurements: Measurements) -> str:
    """Returns the report with plots that are drawn, but not rendered: those of a page take two seconds."""

    def blank(self: Figure, file: IO[str], **options: Any) -> None:
        file.write("<svg></svg>")

    with mock.patch.object(Figure, "savefig", blank):
        return report_html(subject, measurements)


@pytest.fixture(scope="module")
def html() -> str:
    return report_html(subject(), measured())


def test_the_report_fetches_nothing(html: str) -> None:
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert "://" not in without_namespaces
    assert not re.search(r"<(script|link|iframe|img|object)\b|@import|url\((?!#)", without_namespaces)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', html))


def test_the_report_holds_every_plot_and_every_id_once(html: str) -> None:
    labels = re.findall(r'<svg role="img" aria-label="([^"]*)"', html)
    assert len(labels) == len(set(labels)) == 4 + 4 + 4 + 2 * 4 + 3
    for kind in ("ROC curves", "calibration curve", "histogram of scores", "95% intervals", "Training loss"):
        assert any(kind in label for label in labels), kind
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', html))
    assert used <= set(ids)


def test_what_was_required_is_told_on_the_page_on_the_terminal_and_in_metrics_json(html: str) -> None:
    section = html.partition("<h2>Requirements</h2>")[2].partition("<h2")[0]
    rows = re.findall(r"<tr>.*?</tr>", section, re.DOTALL)
    texts = [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows]
    assert texts[1:] == ["ctr_auc at least 0.1 0.75000 yes", "ctcvr_calibration from 7 to 8 0.75000 no"]
    assert "1 of 2 are not met." in section
    lines = shown(subject(), measured()).splitlines()
    assert lines[-2:] == [
        "met: ctr_auc = 0.75000: required is at least 0.1",
        "NOT MET: ctcvr_calibration = 0.75000: required is from 7 to 8",
    ]
    content = json.loads(metrics_json(subject(), measured()))
    assert content["requirements"]["ctcvr_calibration"] == {
        "at_least": 7.0,
        "at_most": 8.0,
        "found": 0.75,
        "is_met": False,
        "reason": None,
    }


def test_a_required_metric_that_is_not_defined_is_not_met_and_says_why() -> None:
    (first, _) = requirements_of(subject(), measured(reason="one class only")).values()
    assert (first.is_met, first.found, first.reason) == (False, None, "one class only")
    assert "none: one class only" in page_with_blank_plots(subject(), measured(reason="one class only"))


def test_where_nothing_is_required_nothing_is_said() -> None:
    without = subject(required={})
    assert "Requirements" not in page_with_blank_plots(without, measured())
    assert "required" not in shown(without, measured())
    assert json.loads(metrics_json(without, measured()))["requirements"] == {}


def test_every_plot_is_well_formed(html: str) -> None:
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_report_is_the_same_each_time(html: str) -> None:
    assert report_html(subject(), measured()) == html


def test_the_report_shows_numbers_with_intervals_and_escapes_names(html: str) -> None:
    for text in ("12,345", "0.7500", "0.7405 to 0.7595", "+0.0500", "000001-aaaa", "000007-bbbb"):
        assert text in html
    assert "data/&lt;b&gt;&amp;" in html
    assert "<b>&" not in html
    assert "nan" not in re.sub(r"<(svg|style).*?</\1>", "", html, flags=re.DOTALL).lower()


def test_a_section_has_a_heading_and_a_link_and_what_it_shows_is_escaped() -> None:
    table = Table(["Day", "<b>"], [("1st", [12345]), ("2nd", ["<none>"])], "3 & 4")
    section = PageSection("Joined per day", "tables.html", {"texts": [], "tables": [table]})
    html = page(Frame("t", "l"), [section])
    assert '<a href="#joined-per-day">Joined per day</a>' in html
    assert '<section id="joined-per-day"><h2>Joined per day</h2>\n<h3>3 &amp; 4</h3>' in html
    assert '<td class="n" data-label="&lt;b&gt;">12,345</td>' in html
    assert '<td class="n long" data-label="&lt;b&gt;">&lt;none&gt;</td>' in html


def test_another_section_of_the_report_is_a_function_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def section(subject: Subject, measured: Measurements) -> PageSection:
        rows = [(subject.names[series], [measured.num_groups]) for series in measured.series]
        table = Table(["Series", "contexts"], rows)
        return PageSection("Mine", "tables.html", {"texts": ["A text."], "tables": [table]})

    monkeypatch.setattr(report, "SECTIONS", (section, lambda subject, measured: None))
    html = page_with_blank_plots(subject(), measured(("model",)))
    assert re.findall("<h2>(.*?)</h2>", html) == ["Mine"]
    assert '<tr><th>ESMM</th>\n<td class="n" data-label="contexts">100</td>' in html


@pytest.mark.parametrize("series", [("model",), ("model", "baseline"), ("model", "oracle")])
def test_baseline_and_truth_may_be_missing(series: tuple[str, ...]) -> None:
    alone = subject(baseline_scores=None, truth=None, history=None, history_note="there is no h.json")
    html = page_with_blank_plots(alone, measured(series))
    assert ("CVR over the entire space</th>" in html) == ("oracle" in series)
    assert ("BASE" in html) == ("baseline" in series)
    assert "No training curves: there is no h.json" in html
    assert ("oracle" in shown(alone, measured(series))) == ("oracle" in series)


def test_what_is_undefined_says_why_everywhere() -> None:
    nothing = measured(reason="one class only: no positive label")
    html = page_with_blank_plots(subject(num_samples=0), nothing)
    assert html.count("n/a (one class only: no positive label)") > 30
    assert "<figure>" not in html.split('id="training"')[0]
    assert "n/a (one" in shown(subject(), nothing)
    content = json.loads(metrics_json(subject(), nothing))
    assert content["metrics"]["model"]["ctr_auc"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "one class only: no positive label",
    }


def test_the_terminals_table_has_a_row_per_series_and_fits() -> None:
    text = shown(subject(), measured())
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("ESMM") == text.count("BASE") == text.count("oracle") == len(KINDS)
    assert "0.7500 ±0.0095" in text
    assert "12,345 impressions, 678 clicks, 678 conversions, model 000001-aaaa" in text


@pytest.mark.parametrize(
    ("replicates", "claim", "mark"),
    [([0.01, 0.02, 0.03], "ahead by 0.0200", "good"), ([-0.03, -0.02, -0.01], "behind by 0.0200", "bad")],
)
def test_a_difference_is_clear_only_if_its_interval_leaves_out_0(
    replicates: list[float], claim: str, mark: str
) -> None:
    def sentence(difference: Estimate) -> str:
        numbers = replace(measured(), differences={"cvr_auc_entire_space": difference})
        return "".join(conclusion(subject(), numbers, TARGETS[-1])[1:])

    clear = Estimate(float(np.median(replicates)), np.array(replicates))
    assert sentence(clear).startswith(f"ESMM is {claim}{mark} (95% interval of the difference ")
    assert "no clear difference" in sentence(Estimate(0.01, np.array([-0.01, 0.01, 0.02])))
    assert "0.0100 above that of BASE (no interval)" in sentence(Estimate(0.01, np.array([])))


def test_the_distance_to_the_oracle_is_that_between_the_aucs(html: str) -> None:
    # 0.70 -> 0.75 of 0.70 -> 0.80
    assert "50% of the way to the oracle" in conclusion(subject(), measured(), TARGETS[-1]).after
    assert (
        '<li><b>CVR over the entire space</b>: ESMM is <span class="good">ahead by 0.0500</span> (95% '
        "interval of the difference +0.0405 to +0.0595), 50% of the way to the oracle.</li>"
    ) in html


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(1, 2, "50.0%"), (39, 1000, "3.90%"), (54, 10_000, "0.540%"), (0, 5, "0%"), (1, 0, "n/a"),
     (1, 10**6, "1.00e-04%"), (3, 3, "100%")],
)  # fmt: skip
def test_rates_have_three_digits(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def calibrated(value: float, half_width: float, replicates: int = 3) -> Measurements:
    """Returns the made-up numbers with a calibration of CTCVR, and of all others 1."""
    numbers = measured(("model",))
    spread = half_width * np.linspace(-1, 1, replicates)
    ones = {key: Estimate(1.0, 1 + spread) for key in numbers.estimates if "calibration" in key[1]}
    ours = {("model", "ctcvr_calibration"): Estimate(value, value + spread)}
    return replace(numbers, estimates={**numbers.estimates, **ones, **ours})


def test_a_score_whose_level_is_wrong_is_a_warning_in_the_report_and_metrics_json() -> None:
    numbers = calibrated(1.49, 0.1)
    (warning,) = json.loads(metrics_json(subject(), numbers))["warnings"]
    assert warning == (
        "CTCVR: ESMM's pctcvr add up to 1.490 times the labels (95% interval 1.395 to 1.585): "
        "a bid computed from them is off by that factor"
    )
    html = page_with_blank_plots(subject(), numbers)
    assert str(escape(warning)) in html
    assert html.count('<span class="bad">1.490</span>') == 1


@pytest.mark.parametrize(
    ("value", "half_width", "replicates", "warned"),
    [(1.49, 0.6, 3, False), (1.09, 0.01, 3, False), (0.89, 0.01, 3, True), (1.49, 0.0, 0, True)],
    ids=["by chance", "nearly right", "too low", "no interval"],
)
def test_a_level_is_wrong_if_it_is_off_by_a_tenth_and_not_by_chance(
    value: float, half_width: float, replicates: int, warned: bool
) -> None:
    numbers = calibrated(value, half_width, replicates)
    assert len(warnings_of(subject(), numbers)) == warned
    assert ('class="note"' in page_with_blank_plots(subject(), numbers)) == warned


def test_resamples_that_are_all_alike_give_no_interval_but_a_reason() -> None:
    alike = Estimate(0.75, 0.75 + np.array([0.0, 1e-16, np.nan]))
    assert alike.interval is None
    assert alike.as_dict()["interval_reason"] == "all resamples are alike"
    numbers = measured(("model",))
    one_context = replace(numbers, num_groups=1, estimates=dict.fromkeys(numbers.estimates, alike))
    why = "all impressions are of one context, and contexts are what is resampled"
    html = page_with_blank_plots(subject(), one_context)
    assert f"Interval n/a: {why}." in html
    assert html.count("<small>interval n/a</small>") == html.count('<td class="n"')
    text = " ".join(shown(subject(), one_context).split())
    assert "0.7500 ±n/a" in text
    assert f"n/a: {why}" in text
    assert "0.0000" not in text


def test_every_cell_says_what_it_is_where_a_screen_has_no_room_for_columns(html: str) -> None:
    cells = re.findall(r'<td class="n[^"]*"([^>]*)>', html)
    assert cells
    assert all(re.fullmatch(r' data-label="[^"]+"', attributes) for attributes in cells)
    assert "content: attr(data-label)" in html
